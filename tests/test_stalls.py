"""A run that finishes nothing stops after the configured time, and says on what it waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.actors import Progress
from pipeline.cli import run_job
from pipeline.exit_codes import ExitCode
from pipeline.stage_queues import StageQueue, StageQueues
from pipeline.stalls import StallWatch
from pipeline.tokenization import TokenizeConfig, tokenize_corpus
from tests.job_runs import write_config
from tests.tiny_corpus import make_corpus, tokenize_values

IDLE, WAITING, AT_WORK = StageQueue(), StageQueue(3, 0), StageQueue(0, 1)


@pytest.mark.parametrize(
    ("queues", "where"),
    [
        (StageQueues(WAITING, WAITING, AT_WORK, 1), "A commit does not end"),
        (StageQueues(AT_WORK, AT_WORK, IDLE, 1), "Encoders are at work"),
        (StageQueues(AT_WORK, WAITING, IDLE, 0), "No encoder has started"),
        (StageQueues(AT_WORK, IDLE, IDLE, 1), "Decode tasks do not end"),
        (StageQueues(WAITING, IDLE, IDLE, 1), "No decode task has been started"),
        (StageQueues(WAITING, num_encoders=0, is_together=True), "No process that decodes and"),
        (StageQueues(AT_WORK, num_encoders=1, is_together=True), "Decode tasks do not end"),
        (StageQueues(IDLE, IDLE, WAITING, 1), "Nothing waits and nothing is at work"),
    ],
)
def test_the_last_stage_that_is_held_up_is_named(queues: StageQueues, where: str) -> None:
    watch = StallWatch(0.0)
    watch.note(Progress(queues=queues))
    message = str(watch.error(num_before=2, num_videos=9))
    assert where in message
    assert "2 of 9 videos were done" in message
    assert queues.lines() in message


def test_only_finished_work_is_progress() -> None:
    watch = StallWatch(0.05)
    watch.note(Progress(num_units=1))
    time.sleep(0.1)
    assert watch.is_stalled
    watch.note(Progress(num_units=1, queues=StageQueues(AT_WORK)))
    assert watch.is_stalled
    watch.note_silence()
    assert "The committer does not answer" in str(watch.error(0, 9))
    watch.note(Progress(num_units=2))
    assert not watch.is_stalled


@contextmanager
def taken(num_cpus: float) -> Iterator[None]:
    """Another job holds so many CPUs of the cluster."""
    import ray

    class Holder:
        def is_there(self) -> bool:
            return True

    holder = ray.remote(Holder).options(num_cpus=num_cpus).remote()
    assert ray.get(holder.is_there.remote())
    yield
    ray.kill(holder)


@pytest.mark.ray
def test_a_run_without_room_ends_with_its_code_and_says_what_lacks(
    ray_cluster: None,
    tokenizer_directory: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    values: dict[str, Any] = tokenize_values(corpus, tokenizer_directory, tmp_path / "tokens")
    values["engine"] = {"no_progress_timeout_s": 8}
    arguments = ["--config", str(write_config(tmp_path / "job.yaml", values))]
    with taken(2):
        began_s = time.monotonic()
        code = run_job("", TokenizeConfig, tokenize_corpus, example="", arguments=arguments)
    assert code == ExitCode.STALLED
    assert time.monotonic() - began_s > 8
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "nothing finished" in line]
    assert "engine.no_progress_timeout_s = 8" in line
    assert "0 of 6 videos were done" in line
    assert "No process that decodes and encodes has started: see that the cluster has the" in line
    assert "0 at work in 0 ready processes" in line
