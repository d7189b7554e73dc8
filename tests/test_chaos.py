"""Kill -9 at random: after the same command again the dataset is that of an undisturbed run.

`make chaos` does it 20 times and more; the plain test run once per kind of process that matters
most. Compared byte for byte are all columns of all clip rows but `run_id`, which names the run
that committed a row, and of the quarantine all but `run_id` and `quarantined_at`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.dataset import TokenDataset
from tests.chaos_cluster import ENVIRONMENT, KINDS, ChaosCluster
from tests.job_runs import REPOSITORY, job_environment, write_config
from tests.video_factory import make_video

pytestmark = [pytest.mark.ray, pytest.mark.jobs, pytest.mark.timeout(3600)]

NUM_RUNS = int(os.environ.get("SWEETTOK_CHAOS_RUNS", "2"))
SEED = int(os.environ.get("SWEETTOK_CHAOS_SEED", "0"))
NUM_VIDEOS = 40
JOB_TIMEOUT_S = 240
MAX_REPEATS = 4


@dataclass(frozen=True)
class Moment:
    """When to kill: so long after the dataset has reached a version (0: after the start)."""

    version: int
    delay_s: float

    @classmethod
    def drawn_by(cls, choice: random.Random) -> Moment:
        """Any moment between the start and the last commits; half of them between commits."""
        if choice.random() < 0.2:
            return cls(0, choice.uniform(0, 10))
        return cls(choice.randint(1, 16), choice.uniform(0, 0.3))


class Job:
    """The corpus job on the cluster, in a process of its own."""

    def __init__(self, config: Path, address: str) -> None:
        self.log = config.with_suffix(".log")
        environment = job_environment() | ENVIRONMENT | {"RAY_ADDRESS": address}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "jobs/tokenize_corpus.py", "--config", str(config)],
                cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait(self) -> int:
        """Its exit code; a job that hangs fails the test."""
        try:
            return self.process.wait(JOB_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"the job hangs:\n{self.text()}")

    def text(self) -> str:
        """What all jobs with this config printed."""
        return self.log.read_text()


@pytest.fixture(scope="module")
def cluster() -> Iterator[ChaosCluster]:
    cluster = ChaosCluster()
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for index in range(NUM_VIDEOS):
        make_video(folder / f"{index:02}.mp4", num_frames=20 + index % 12, fps=10 + index)
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "zero.mp4").write_bytes(b"")
    return folder


def job_config(folder: Path, corpus: Path, tokenizer: str) -> Path:
    """One clip takes milliseconds, a commit comes every few clips: most moments are in between."""
    folder.mkdir()
    values = {
        "source": {"uris": [str(corpus)]},
        "tokenizer": tokenizer,
        "dataset": {"uri": str(folder / "tokens")},
        "encode": {"batch_size": 4, "num_cpus_per_actor": 0.5},
        "engine": {
            "num_cpus_per_decode_task": 0.5,
            "memory_bytes_per_decode_task": 150 * 2**20,
            "no_progress_timeout_s": 120,
        },
        "commit": {"every_clips": 5, "every_s": 1},
    }
    return write_config(folder / "job.yaml", values)


def content(config: Path) -> tuple[bytes, bytes]:
    """The clip table and the quarantine as bytes that equal rows always give."""
    dataset = TokenDataset.open(config.parent / "tokens")
    clips = dataset.rows().read_all().drop_columns(["run_id"]).sort_by("clip_id")
    quarantine = dataset.quarantine().drop_columns(["run_id", "quarantined_at"])
    return serialized(clips), serialized(quarantine)


def serialized(rows: pa.Table) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows.to_pylist(), rows.schema))
    return bytes(stream.getvalue())


@pytest.fixture(scope="module")
def undisturbed(
    cluster: ChaosCluster,
    corpus: Path,
    tokenizer_directory: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    config = job_config(folder, corpus, tokenizer_directory)
    job = Job(config, cluster.address)
    assert job.wait() == 0, job.text()
    assert f"tokenized {NUM_VIDEOS} + quarantined 2" in job.text()
    return content(config)


@pytest.mark.parametrize("number", range(NUM_RUNS))
def test_a_killed_run_ends_as_an_undisturbed_one(
    cluster: ChaosCluster,
    undisturbed: tuple[bytes, bytes],
    corpus: Path,
    tokenizer_directory: str,
    tmp_path: Path,
    number: int,
) -> None:
    choice = random.Random(f"{SEED}/{number}")
    kind = KINDS[number % len(KINDS)]
    config = job_config(tmp_path / "run", corpus, tokenizer_directory)
    started_s = time.monotonic()
    job = Job(config, cluster.address)
    victim = kill_at(Moment.drawn_by(choice), kind, cluster, job, choice)
    exit_code = job.wait()
    num_repeats = finish(config, cluster)
    duration_s = time.monotonic() - started_s
    print(
        json.dumps({"run": number, "kind": kind, "victim": victim, "exit_code": exit_code,
                    "repeats": num_repeats, "duration_s": round(duration_s, 1)})
    )  # fmt: skip
    # Only the end of the driver, or of the node it runs on, needs a person.
    assert exit_code in {"driver": {-9}, "actor": {0}, "worker": {0}, "raylet": {0, 1}}[kind]
    assert content(config) == undisturbed


def kill_at(
    moment: Moment, kind: str, cluster: ChaosCluster, job: Job, choice: random.Random
) -> str:
    """Waits for the moment, then until there is something to kill; says what it was."""
    root = Path(job.log.parent / "tokens" / "_delta_log")
    while not (root / f"{moment.version:020}.json").exists() and moment.version:
        assert job.process.poll() is None, f"too early an end:\n{job.text()}"
        time.sleep(0.02)
    time.sleep(moment.delay_s)
    while True:
        assert job.process.poll() is None, f"nothing was killed:\n{job.text()}"
        victim = cluster.kill(kind, job.process.pid, choice)
        if victim is not None:
            return f"{victim} after version {moment.version} + {moment.delay_s:.2f} s"
        time.sleep(0.05)


def finish(config: Path, cluster: ChaosCluster) -> int:
    """Runs the same command until it has nothing to do; returns how often it had."""
    for num_repeats in range(MAX_REPEATS):
        cluster.heal()
        job = Job(config, cluster.address)
        assert job.wait() == 0, job.text()
        if "nothing to do" in job.text():
            assert f"unchanged {NUM_VIDEOS + 2}" in job.text()
            return num_repeats
    pytest.fail(f"{MAX_REPEATS} repetitions did not finish:\n{job.text()}")
