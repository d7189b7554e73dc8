"""Training under Ray Train: several workers, interruption and resume, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pipeline.errors import PipelineError, SourceError
from pipeline.training.config import TrainConfig
from pipeline.training.fit import fit_tokenizer
from pipeline.training.loop import load_lexicon, training_loss
from pipeline.training.optimizer import ModelOptimizer, OptimizerConfig, rate_at
from pipeline.training.state import TrainingProgress, load_checkpoint, save_checkpoint
from sweettok import Lexicon, SweetTok
from sweettok.errors import LexiconError
from tests.job_runs import REPOSITORY, job_environment, write_config
from tests.test_jobs import train_values
from tests.tiny_corpus import make_corpus
from tests.tiny_models import tiny_config


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def values(corpus: Path, lexicon: Lexicon, tmp_path: Path) -> dict[str, Any]:
    lexicon.save(tmp_path / "lexicon")
    return train_values(corpus, tmp_path / "lexicon", tmp_path)


def test_learning_rate_warms_up_then_falls_with_the_fraction_done() -> None:
    config = OptimizerConfig(final_fraction=0.1, warmup_steps=10)
    assert rate_at(config, 0, 0.0) == pytest.approx(0.1)
    assert rate_at(config, 9, 0.0) == pytest.approx(1.0)
    assert rate_at(config, 100, 0.5) == pytest.approx(0.55)
    assert rate_at(config, 100, 1.0) == pytest.approx(0.1)
    assert rate_at(config, 100, 1.7) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_restored_run_goes_on_as_if_never_interrupted(
    kind: str, values: dict[str, Any], tmp_path: Path
) -> None:
    values["optimizer"] = {"kind": kind}
    config = TrainConfig.from_mapping(values)
    video = torch.rand(6, 2, 3, 9, 32, 48) * 2 - 1

    def start() -> tuple[SweetTok, ModelOptimizer]:
        torch.manual_seed(0)
        model = SweetTok(config.model, load_lexicon(config)).train()
        return model, ModelOptimizer(model, config.optimizer)

    def step(model: SweetTok, optimizer: ModelOptimizer, clips: torch.Tensor) -> None:
        optimizer.step(training_loss(clips, model(clips), config.loss), rate=0.5)

    undisturbed, optimizer = start()
    for clips in video[:3]:
        step(undisturbed, optimizer, clips)
    progress = TrainingProgress(3, 1.5, 1, config.recipe)
    save_checkpoint(tmp_path / "checkpoint", undisturbed, optimizer, progress)
    for clips in video[3:]:
        step(undisturbed, optimizer, clips)

    torch.manual_seed(99)
    restored, optimizer = start()
    step(restored, optimizer, video[5])
    found = load_checkpoint(tmp_path / "checkpoint", restored, optimizer, config.recipe)
    assert found == progress
    for clips in video[3:]:
        step(restored, optimizer, clips)
    for name, tensor in undisturbed.state_dict().items():
        if not name.endswith("codebook.codes"):
            assert torch.equal(tensor, restored.state_dict()[name]), name
    values["schedule"]["num_steps"] = 5
    other = TrainConfig.from_mapping(values).recipe
    with pytest.raises(PipelineError, match=r"schedule\.num_steps: 4 there, 5 now"):
        load_checkpoint(tmp_path / "checkpoint", restored, optimizer, other)


@pytest.mark.ray
def test_two_workers_train_one_tokenizer_and_a_second_call_finds_it(
    ray_cluster: None, values: dict[str, Any]
) -> None:
    values["workers"] = {"num_workers": 2}
    config = TrainConfig.from_mapping(values)
    first = fit_tokenizer(config)
    assert first.num_steps == 4
    trained = SweetTok.from_pretrained(first.output)
    torch.manual_seed(config.schedule.seed)
    untrained = SweetTok(tiny_config(), load_lexicon(config))
    moved = (trained.encoder.patch_embedding.tubes.weight
             - untrained.encoder.patch_embedding.tubes.weight)  # fmt: skip
    assert moved.abs().max() > 0
    again = fit_tokenizer(config)
    assert (again.num_steps, again.fingerprint) == (None, first.fingerprint)
    values["optimizer"] = {"learning_rate": 0.5}
    with pytest.raises(PipelineError, match=r"optimizer\.learning_rate: 0\.0001 there, 0\.5 now"):
        fit_tokenizer(TrainConfig.from_mapping(values))
    values["run"]["output"] += "-elsewhere"
    with pytest.raises(PipelineError, match=r"checkpoints/tokenizer belongs to a run with other"):
        fit_tokenizer(TrainConfig.from_mapping(values))


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


@pytest.mark.ray
@pytest.mark.jobs
@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_a_killed_run_continues_from_its_checkpoint(
    victim: str, values: dict[str, Any], tmp_path: Path
) -> None:
    values["schedule"]["num_steps"] = 120
    values["run"] |= {"checkpoint_every_steps": 10, "log_every_steps": 100}
    config = write_config(tmp_path / "train.yaml", values)
    command = [sys.executable, "jobs/train_tokenizer.py", "--config", str(config)]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    log_path = tmp_path / "log"
    with log_path.open("w") as log:
        job = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        wait_for_checkpoints(tmp_path / "checkpoints", job)
        family = psutil.Process(job.pid).children(recursive=True)
        if victim == "driver":
            os.kill(job.pid, signal.SIGKILL)
            job.wait()
            psutil.wait_procs(family, timeout=60)
            job = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        else:
            (worker,) = [process for process in family if "RayTrainWorker" in process.name()
                         or "RayTrainWorker" in " ".join(process.cmdline())]  # fmt: skip
            os.kill(worker.pid, signal.SIGKILL)
        assert job.wait(timeout=300) == 0, log_path.read_text()
    assert "trained for 120 steps" in log_path.read_text()
    last = max((tmp_path / "checkpoints").glob("*/checkpoint_[0-9]*"))
    progress = json.loads((last / "progress.json").read_text())
    assert (progress["step"], progress["num_restores"]) == (120, 1)
    assert SweetTok.from_pretrained(tmp_path / "tokenizer").config == tiny_config()


@pytest.mark.ray
@pytest.mark.jobs
def test_an_interrupted_run_says_so(values: dict[str, Any], tmp_path: Path) -> None:
    values["schedule"]["num_steps"] = 10_000
    values["run"]["checkpoint_every_steps"] = 10
    config = write_config(tmp_path / "train.yaml", values)
    command = [sys.executable, "jobs/train_tokenizer.py", "--config", str(config)]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(
            command, cwd=REPOSITORY, env=job_environment(), stdout=log, stderr=subprocess.STDOUT
        )
        wait_for_checkpoints(tmp_path / "checkpoints", job)
        job.send_signal(signal.SIGINT)
        assert job.wait(timeout=60) == 130
    assert "interrupted; the same command continues" in (tmp_path / "log").read_text()


SNAPSHOT = "*/checkpoint_manager_snapshot.json"


def wait_for_checkpoints(storage: Path, job: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    # A checkpoint counts once Ray Train's controller has noted it, seconds after it was written.
    while not any("checkpoint_dir_name" in path.read_text() for path in storage.glob(SNAPSHOT)):
        assert job.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.2)
