"""Training under Ray Train: several workers, kills and resume, evaluation, and what it refuses."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import PipelineError, SourceError
from pipeline.training.config import TrainConfig
from pipeline.training.fit import fit_tokenizer
from pipeline.training.loop import load_lexicon
from pipeline.training.state import TrainingProgress, load_checkpoint
from pipeline.training.trainer import Trainer
from sweettok import Lexicon, SweetTok
from sweettok.errors import ConfigError, LexiconError
from sweettok.tokenizer_manifest import read_manifest
from tests.killed_runs import (
    kill_worker_then_driver,
    last_checkpoint,
    start_job,
    wait_for_checkpoints,
)
from tests.tiny_corpus import make_corpus
from tests.tiny_models import tiny_config
from tests.training_workers import train_values
from tests.video_factory import make_video


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def values(corpus: Path, lexicon: Lexicon, tmp_path: Path) -> dict[str, Any]:
    lexicon.save(tmp_path / "lexicon")
    return train_values(corpus, tmp_path / "lexicon", tmp_path)


@pytest.mark.ray
def test_a_run_is_logged_evaluated_and_found_again(
    ray_cluster: None, values: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    image = {"num_steps": 2, "num_frames": 1, "batch_size_per_worker": 2}
    values["training"]["phases"] = {"image": image} | values["training"]["phases"]
    values["data"]["validation"] = {"source": {"uris": [str(corpus / "sub")]}}
    values["evaluation"] = {"every_steps": 3, "best_metric": "image_psnr_db", "shown_clips": 2}
    values["run"] |= {"tensorboard": str(tmp_path / "tensorboard"), "keep": "best"}
    config = TrainConfig.from_mapping(values)
    first = fit_tokenizer(config)
    assert first.num_steps == 6
    assert first.kept_step is not None
    rows = [json.loads(line) for line in (first.output / "metrics.jsonl").open()]
    logged = [(row["phase"], row["step"]) for row in rows if row["kind"] == "train"]
    assert logged == [("image", 2), ("video", 4), ("video", 6)]
    assert 0 < rows[0]["usage/spatial"] <= 1
    assert rows[0]["dead_share/spatial"] == pytest.approx(1 - rows[0]["usage/spatial"], abs=1e-5)
    assert "usage/temporal" not in rows[0]
    assert "loss/temporal_commitment" in rows[-2]
    evaluations = {row["step"]: row for row in rows if row["kind"] == "evaluation"}
    assert list(evaluations) == [2, 3, 6]
    assert {"psnr_db", "ssim", "image_psnr_db", "perplexity/temporal"} <= evaluations[6].keys()

    best_step = max(evaluations, key=lambda step: evaluations[step]["image_psnr_db"])
    checkpoint = max((tmp_path / "checkpoints").glob("*/checkpoint_[0-9]*"))
    progress = json.loads((checkpoint / "progress.json").read_text())
    assert progress["best_step"] == first.kept_step == best_step
    best = SweetTok.from_pretrained(checkpoint / "best")
    assert torch.equal(
        best.encoder.patch_embedding.first_frame.weight,
        SweetTok.from_pretrained(first.output).encoder.patch_embedding.first_frame.weight,
    )

    board = EventAccumulator(str(tmp_path / "tensorboard"), {"images": 0, "scalars": 0}).Reload()
    assert [event.step for event in board.Scalars("train/learning_rate")] == [2, 4, 6]
    assert [event.step for event in board.Images("reconstruction/1")] == [2, 3, 6]
    picture = board.Images("reconstruction/0")[0]
    assert (picture.height, picture.width) == (2 * 32, 3 * 48)

    again = fit_tokenizer(config)
    assert (again.num_steps, again.fingerprint) == (None, first.fingerprint)
    values["training"]["optimizer"] = {"learning_rate": 0.5}
    with pytest.raises(PipelineError, match=r"optimizer\.learning_rate: 0\.0001 there, 0\.5 now"):
        fit_tokenizer(TrainConfig.from_mapping(values))
    values["run"]["output"] += "-elsewhere"
    with pytest.raises(PipelineError, match=r"checkpoints/tokenizer.* belongs to a run with other"):
        fit_tokenizer(TrainConfig.from_mapping(values))


@pytest.mark.ray
def test_a_changed_corpus_is_noticed_before_the_run_goes_on(
    ray_cluster: None, values: dict[str, Any], tmp_path: Path
) -> None:
    videos = make_corpus(tmp_path / "videos")
    values["data"]["source"] = {"uris": [str(videos)]}
    first = fit_tokenizer(TrainConfig.from_mapping(values))
    assert first.num_steps == 4
    checkpoints = tmp_path / "checkpoints" / "tokenizer"
    half_copied = checkpoints / "checkpoint_half"
    half_copied.mkdir()
    (half_copied / "progress.json").touch()

    values["run"]["output"] += "-elsewhere"
    values["data"]["cache"]["directory"] = str(tmp_path / "moved")
    values["data"]["prefetch_batches"] = 1
    again = fit_tokenizer(TrainConfig.from_mapping(values))  # goes on behind its last step
    assert (again.num_steps, again.fingerprint) == (4, first.fingerprint)

    values["run"]["output"] += "-again"
    make_video(videos / "new.mp4", num_frames=20)
    changed = TrainConfig.from_mapping(values)
    with pytest.raises(PipelineError, match="belongs to a run with other training frames: videos"):
        fit_tokenizer(changed)
    trainer = Trainer(SweetTok(changed.model, load_lexicon(changed)), changed.training)
    checkpoint = last_checkpoint(tmp_path)
    kept = TrainingProgress.read(checkpoint)
    assert load_checkpoint(checkpoint, trainer, changed.recipe, kept.frames) == kept
    with pytest.raises(PipelineError, match="with other training frames"):
        load_checkpoint(checkpoint, trainer, changed.recipe, {"training": "other"})


@pytest.mark.ray
def test_no_checkpoint_holds_what_is_no_number(
    ray_cluster: None, values: dict[str, Any], tmp_path: Path
) -> None:
    values["training"]["optimizer"] = {"learning_rate": 1e30}
    values["training"]["phases"]["video"] |= {"num_steps": 20, "warmup_steps": 0}
    values["run"] |= {"checkpoint_every_steps": 1, "log_every_steps": 100}
    values["workers"] = {"max_failures": 0}
    with pytest.raises(PipelineError, match="a loss or a gradient is no longer a number: after"):
        fit_tokenizer(TrainConfig.from_mapping(values))
    checkpoint = last_checkpoint(tmp_path)
    assert TrainingProgress.read(checkpoint).position.num_steps < 20
    for name, tensor in safetensors.torch.load_file(checkpoint / "training.safetensors").items():
        assert tensor.isfinite().all(), name


@pytest.mark.ray
def test_training_straight_from_videos(ray_cluster: None, values: dict[str, Any]) -> None:
    values["data"]["cache"] = None
    fit = fit_tokenizer(TrainConfig.from_mapping(values))
    assert fit.num_steps == 4
    trained = SweetTok.from_pretrained(fit.output)
    torch.manual_seed(0)
    untrained = SweetTok(tiny_config(), load_lexicon(TrainConfig.from_mapping(values)))
    moved = (trained.encoder.patch_embedding.tubes.weight
             - untrained.encoder.patch_embedding.tubes.weight)  # fmt: skip
    assert moved.abs().max() > 0


def test_nothing_that_is_there_is_overwritten(values: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "tokenizer"
    output.mkdir()
    (output / "wedding.txt").write_text("keep me")
    with pytest.raises(PipelineError, match="is there already"):
        fit_tokenizer(TrainConfig.from_mapping(values))
    assert (output / "wedding.txt").read_text() == "keep me"
    values["run"]["output"] = str(output / "wedding.txt")
    with pytest.raises(PipelineError, match="is there already"):
        fit_tokenizer(TrainConfig.from_mapping(values))


def test_a_wrong_lexicon_is_found_before_ray_starts(values: dict[str, Any]) -> None:
    values["lexicon"] = "large"
    with pytest.raises(LexiconError, match="large: no lexicon there"):
        fit_tokenizer(TrainConfig.from_mapping(values))


@pytest.mark.ray
def test_more_workers_than_cpus_is_one_clear_error(
    ray_cluster: None, values: dict[str, Any]
) -> None:
    values["workers"] = {"num_workers": 8}
    with pytest.raises(PipelineError, match="needs 8 CPUs at one time, Ray has 2"):
        fit_tokenizer(TrainConfig.from_mapping(values))


@pytest.mark.ray
def test_a_source_without_usable_videos_is_one_clear_error(
    ray_cluster: None, values: dict[str, Any], corpus: Path
) -> None:
    values["data"]["source"] = {"uris": [str(corpus / "zero.mp4"), str(corpus / "text.mp4")]}
    with pytest.raises(SourceError, match="none of the 2 videos"):
        fit_tokenizer(TrainConfig.from_mapping(values))


def test_settings_that_do_not_fit_each_other_are_refused(values: dict[str, Any]) -> None:
    values["run"]["keep"] = "best"
    with pytest.raises(ConfigError, match="needs an evaluation"):
        TrainConfig.from_mapping(values)
    values["evaluation"] = {}
    with pytest.raises(ConfigError, match=r"evaluation needs held-out clips; set data\.validation"):
        TrainConfig.from_mapping(values)
    values["data"]["validation"] = {"fraction": 0.5}
    values["evaluation"] = {"best_metric": "image_psnr_db"}
    with pytest.raises(ConfigError, match="no phase has images"):
        TrainConfig.from_mapping(values)
    values["evaluation"] = {}
    streamed = copy.deepcopy(values)
    streamed["data"] |= {"cache": None, "validation": None}
    streamed["run"]["keep"], streamed["evaluation"] = "last", None
    streamed["training"]["phases"]["video"]["num_frames"] = 13
    with pytest.raises(ConfigError, match=r"num_frames is 13, .* the model's 9 frames; set data"):
        TrainConfig.from_mapping(streamed)
    streamed["training"]["phases"]["video"] |= {"num_frames": 9, "time_limit_s": 5}
    streamed["workers"] = {"num_workers": 2}
    with pytest.raises(ConfigError, match=r"time_limit_s with 2 workers needs data\.cache"):
        TrainConfig.from_mapping(streamed)
    values["training"]["phases"]["video"]["num_frames"] = 7
    with pytest.raises(ConfigError, match=r"training\.phases\.video: .*num_frames must be 1 \+"):
        TrainConfig.from_mapping(values)


def test_where_frames_are_kept_decides_nothing_and_how_many_workers_does(
    values: dict[str, Any],
) -> None:
    recipe = TrainConfig.from_mapping(values).recipe
    values["data"]["cache"] |= {"directory": "elsewhere", "shard_bytes": 2**21}
    values["data"]["prefetch_batches"] = 9
    assert TrainConfig.from_mapping(values).recipe == recipe
    values["workers"] = {"num_workers": 2}
    assert TrainConfig.from_mapping(values).recipe != recipe
    del values["workers"]
    values["data"]["cache"] = None
    assert TrainConfig.from_mapping(values).recipe != recipe


# `make chaos` multiplies the steps of the run that is killed.
KILLED_RUN_SCALE = int(os.environ.get("SWEETTOK_KILLED_RUN_SCALE", "1"))
KILLED_PHASES = {
    "image": {"num_steps": 6 * KILLED_RUN_SCALE, "num_frames": 1},
    "video": {"num_steps": 12 * KILLED_RUN_SCALE},
    "adversarial": {"num_steps": 6 * KILLED_RUN_SCALE, "reset_optimizer": True,
                    "adversarial": {"start_step": 2 * KILLED_RUN_SCALE}},
}  # fmt: skip


@pytest.mark.ray
@pytest.mark.jobs
def test_a_run_killed_twice_ends_with_the_weights_of_an_undisturbed_one(
    ray_cluster: None, values: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    every_steps = 2 * KILLED_RUN_SCALE
    num_steps = 12 * every_steps
    values["workers"] = {"num_workers": 2}
    values["data"]["validation"] = {"source": {"uris": [str(corpus / "sub")]}}
    values["evaluation"] = {"every_steps": every_steps}
    shared = {"batch_size_per_worker": 2, "warmup_steps": every_steps}
    values["training"] |= {
        "phases": {name: phase | shared for name, phase in KILLED_PHASES.items()},
        "optimizer": {"learning_rate": 1e-3},
        "ema": {"decay": 0.9},
        "discriminator": {"width": 16, "depth": 1, "num_temporal_halvings": 1},
    }
    values["run"] |= {"checkpoint_every_steps": every_steps, "log_every_steps": every_steps}
    values["run"] |= {"keep": "best"}
    undisturbed = TrainConfig.from_mapping(placed(values, tmp_path / "undisturbed"))
    kept_step = fit_tokenizer(undisturbed).kept_step

    job = start_training(values, tmp_path / "killed")
    storage = tmp_path / "killed" / "checkpoints"
    kill_worker_then_driver(job, storage)
    job = start_training(values, tmp_path / "killed")
    assert job.wait(timeout=300) == 0, (tmp_path / "killed/log").read_text()

    expected, found = (last_checkpoint(tmp_path / name) for name in ("undisturbed", "killed"))
    progress = json.loads((found / "progress.json").read_text())
    assert (progress["position"]["num_steps"], progress["num_restores"]) == (num_steps, 2)
    assert progress["best_step"] == kept_step
    expected_rows, rows = (
        [json.loads(line) | {"clips_per_s": None} for line in (path / "metrics.jsonl").open()]
        for path in (expected, found)
    )
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(
        range(every_steps, num_steps + 1, every_steps)
    )
    assert rows == expected_rows
    expected_tensors, found_tensors = (
        safetensors.torch.load_file(directory / "training.safetensors")
        for directory in (expected, found)
    )
    assert expected_tensors.keys() == found_tensors.keys()
    assert any(name.startswith("adversary/lecam/") for name in found_tensors)
    # Codes are made from the parameters when they are asked for, not at every step.
    for name, tensor in expected_tensors.items():
        if not name.endswith("codebook.codes"):
            assert torch.equal(tensor, found_tensors[name]), name
    for pair in (
        (expected / "tokenizer", found / "tokenizer"),
        (expected / "best", found / "best"),
        (tmp_path / "undisturbed" / "tokenizer", tmp_path / "killed" / "tokenizer"),
    ):
        first, second = (read_manifest(directory)["fingerprint"] for directory in pair)
        assert first == second, pair


@pytest.mark.ray
@pytest.mark.jobs
def test_an_interrupted_run_says_so(values: dict[str, Any], tmp_path: Path) -> None:
    values["training"]["phases"]["video"]["num_steps"] = 10_000
    values["run"]["checkpoint_every_steps"] = 10
    job = start_training(values, tmp_path / "run")
    wait_for_checkpoints(tmp_path / "run" / "checkpoints", job, num_restores=0)
    job.send_signal(signal.SIGINT)
    assert job.wait(timeout=60) == 130
    assert "interrupted; the same command continues" in (tmp_path / "run/log").read_text()


def start_training(values: dict[str, Any], root: Path) -> subprocess.Popen[bytes]:
    """The job in a process of its own; frames are shared, checkpoints and output are not."""
    return start_job("train_tokenizer", placed(values, root), root)


def placed(values: dict[str, Any], root: Path) -> dict[str, Any]:
    places = {"storage_path": str(root / "checkpoints"), "output": str(root / "tokenizer")}
    return values | {"run": values["run"] | places}
