"""The generator under Ray Train: killed twice, it ends with the weights of an undisturbed run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import PipelineError
from pipeline.generator.comparison import Clips
from pipeline.generator.config import TrainGeneratorConfig
from pipeline.generator.fit import fit_generator
from pipeline.generator.model import load_generator
from pipeline.generator.state import GeneratorProgress
from pipeline.proof.motion_network import (
    MotionNetwork,
    MotionNetworkConfig,
    save_motion_network,
)
from tests.in_process_run import tokenize_in_process
from tests.killed_runs import kill_worker_then_driver, last_checkpoint, start_job
from tests.tiny_corpus import make_corpus, tokenize_config
from tests.token_samples import commit_all, unit_records, work_unit

NUM_STEPS = 24


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tokens") / "tokens"
    for number in range(8):
        unit = work_unit(f"{number}.mp4", label=("cat", "dog")[number % 2])
        commit_all(root, unit_records(unit, 4))
    return root


def values_of(tokens: Path, root: Path) -> dict[str, Any]:
    return {
        "data": {
            "dataset": {"uri": str(tokens)},
            "class_column": "label",
            "order": {"window_samples": 8},
        },
        "model": {"width": 32, "head_dim": 16, "depth": 2},
        "training": {
            "num_steps": NUM_STEPS,
            "batch_size_per_worker": 3,
            "accumulation_steps": 2,
            "warmup_steps": 3,
            "ema": {"decay": 0.9},
        },
        "evaluation": {"every_steps": 8, "num_samples": 0},
        "workers": {"num_workers": 2},
        "run": {
            "storage_path": str(root / "checkpoints"),
            "output": str(root / "generator"),
            "checkpoint_every_steps": 2,
            "log_every_steps": 2,
        },
    }


@pytest.mark.ray
@pytest.mark.jobs
def test_a_run_killed_twice_ends_with_the_weights_of_an_undisturbed_one(
    ray_cluster: None, tokens: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "undisturbed", tmp_path / "killed"
    config = TrainGeneratorConfig.from_mapping(values_of(tokens, first))
    fit = fit_generator(config)
    assert fit.num_steps == NUM_STEPS
    assert {"total", "total_without_class"} <= fit.held_out_nats.keys()
    assert fit_generator(config).num_steps is None, "finished runs are left alone"

    kill_worker_then_driver(
        start_job("train_generator", values_of(tokens, second), second), second / "checkpoints"
    )
    job = start_job("train_generator", values_of(tokens, second), second)
    assert job.wait(timeout=300) == 0, (second / "log").read_text()

    expected, found = map(last_checkpoint, (first, second))
    progress = json.loads((found / "progress.json").read_text())
    assert (progress["num_steps"], progress["num_restores"]) == (NUM_STEPS, 2)
    tensors = [
        safetensors.torch.load_file(directory / "training.safetensors")
        for directory in (expected, found)
    ]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        assert torch.equal(tensor, tensors[1][name]), name
    rows = [
        [json.loads(line) | {"sequences_per_s": None} for line in (path / "metrics.jsonl").open()]
        for path in (expected, found)
    ]
    assert rows[0] == rows[1]
    weights = [load_generator(root / "generator")[0].state_dict() for root in (first, second)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


class CountClips:
    """The smallest comparison: how many clips there are of each kind."""

    def __call__(self, generated: Iterable[Clips], real: Iterable[Clips]) -> Mapping[str, float]:
        return {"generated": sum(map(len, generated)), "real": sum(map(len, real))}


@pytest.mark.ray
def test_a_run_shows_samples_and_compares_them_with_real_clips(
    ray_cluster: None, tokenizer_directory: str, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    corpus = make_corpus(tmp_path / "corpus")
    tokenize_in_process(tokenize_config(corpus, tokenizer_directory, tokens), batch_size=4)
    sizes = MotionNetworkConfig(width=8, num_features=2)
    network = tmp_path / "network.safetensors"
    save_motion_network(network, MotionNetwork(sizes), sizes, accuracy=0.0, recipe="untrained")
    values = values_of(tokens, tmp_path)
    values["data"]["class_column"] = None
    values["training"] |= {"num_steps": 4, "batch_size_per_worker": 2, "accumulation_steps": 1}
    values["evaluation"] = {
        "every_steps": 2,
        "num_samples": 2,
        "comparison": {
            "num_clips": 6,
            "feature_networks": [{"kind": "motion", "path": str(network)}],
        },
    }
    values["workers"] = {"parallelism": "fsdp", "num_workers": 2}
    values["run"]["tensorboard"] = str(tmp_path / "tensorboard")
    config = TrainGeneratorConfig.from_mapping(values)
    fit = fit_generator(config, comparisons=[CountClips()])
    assert (fit.comparison["generated"], fit.comparison["real"]) == (6, 6)
    assert fit.comparison["motion_frechet"] > 0
    assert "motion_frechet" in fit.lines()[-1]
    rows = [json.loads(line) for line in (fit.output / "metrics.jsonl").open()]
    looks = [row for row in rows if row["kind"] == "evaluation"]
    assert [row["step"] for row in looks] == [2, 4]
    assert all("comparison/motion_frechet" in row and "loss/total" in row for row in looks)
    assert (fit.output / "samples.png").stat().st_size > 1000
    board = EventAccumulator(str(tmp_path / "tensorboard"), {"images": 0, "scalars": 0}).Reload()
    assert [event.step for event in board.Images("sample/1")] == [2, 4]
    assert [event.step for event in board.Scalars("evaluation/loss/total")] == [2, 4]
    again = fit_generator(config, comparisons=[CountClips()])
    assert (again.num_steps, again.comparison) == (None, fit.comparison)


def test_another_number_of_workers_is_another_run(tokens: Path, tmp_path: Path) -> None:
    values = values_of(tokens, tmp_path)
    begun = TrainGeneratorConfig.from_mapping(values)
    checkpoint = tmp_path / "checkpoints" / "generator" / "checkpoint_000001"
    checkpoint.mkdir(parents=True)
    GeneratorProgress(2, begun.recipe, 0, "", {}).write(checkpoint)
    values["workers"] = {"num_workers": 1}
    with pytest.raises(PipelineError, match=r"checkpoint_000001 .*\n  num_workers: 2 there, 1 now"):
        fit_generator(TrainGeneratorConfig.from_mapping(values))


def test_what_is_in_the_way_is_refused(tokens: Path, tmp_path: Path) -> None:
    values = values_of(tokens, tmp_path)
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator" / "mine.txt").write_text("keep me")
    with pytest.raises(PipelineError, match="holds no generator of this job"):
        fit_generator(TrainGeneratorConfig.from_mapping(values))
    values["run"]["output"] = str(tmp_path / "elsewhere")
    values["training"]["batch_size_per_worker"] = 64
    with pytest.raises(PipelineError, match="32 clips are too few for 2 workers"):
        fit_generator(TrainGeneratorConfig.from_mapping(values))
    values["training"]["batch_size_per_worker"] = 3
    config = TrainGeneratorConfig.from_mapping(values)
    with pytest.raises(PipelineError, match=r"evaluation\.comparison is null; set it"):
        fit_generator(config, comparisons=[CountClips()])
    values["evaluation"]["comparison"] = {}
    with pytest.raises(PipelineError, match="carries no tokenizer that decodes samples"):
        fit_generator(TrainGeneratorConfig.from_mapping(values))
