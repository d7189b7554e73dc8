"""Submit, lose a node, stop, submit again: the table is that of an undisturbed run."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_tasks

from pipeline.dataset import TokenDataset
from pipeline.tokenization import TokenizeConfig
from sweettok.strict_config import load_config
from tests.chaos_cluster import ChaosCluster
from tests.in_process_run import tokenize_in_process
from tests.job_runs import REPOSITORY
from tests.test_chaos import content, job_config
from tests.tiny_corpus import GOOD, make_corpus

pytestmark = [pytest.mark.ray, pytest.mark.jobs, pytest.mark.timeout(600)]

NUM_COPIES = 60
NUM_VIDEOS = NUM_COPIES + 6
PATIENT = "--set engine.no_progress_timeout_s=300"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ChaosCluster]:
    cluster = ChaosCluster(takes_jobs=True)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_corpus(tmp_path_factory.mktemp("corpus"))
    for index in range(NUM_COPIES):
        shutil.copy(folder / GOOD[index % len(GOOD)], folder / f"copy{index:03}.mp4")
    return folder


class Submission:
    """The corpus job, submitted under an id of its own."""

    def __init__(self, cluster: ChaosCluster, config: Path, name: str) -> None:
        self._client = JobSubmissionClient(cluster.dashboard_url)
        self._name = self._client.submit_job(
            entrypoint=f"python jobs/tokenize_corpus.py --config {config} {PATIENT}",
            submission_id=name,
            runtime_env={"working_dir": str(REPOSITORY)},
        )

    @property
    def status(self) -> JobStatus:
        return self._client.get_job_status(self._name)

    def log(self) -> str:
        """What the job has printed."""
        return self._client.get_job_logs(self._name)

    def stop(self) -> float:
        """`ray job stop`; returns the seconds that it took to end."""
        began_s = time.monotonic()
        self._client.stop_job(self._name)
        self.wait()
        return time.monotonic() - began_s

    def wait(self) -> None:
        """Waits for its end, whatever it is."""
        while not self.status.is_terminal():
            time.sleep(0.1)


def version_of(config: Path) -> int:
    names = (config.parent / "tokens" / "_delta_log").glob("*.json")
    return max((int(path.stem) for path in names), default=-1)


def reach(version: int, config: Path, job: Submission) -> None:
    """Waits until the dataset has the version, and the job still works."""
    while version_of(config) < version:
        assert not job.status.is_terminal(), job.log()
        time.sleep(0.05)


def test_a_node_lost_and_a_job_stopped_leave_no_trace(
    cluster: ChaosCluster, corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    undisturbed = job_config(tmp_path / "undisturbed", corpus, tokenizer_directory)
    tokenize_in_process(load_config(TokenizeConfig, undisturbed), batch_size=4)
    config = job_config(tmp_path / "run", corpus, tokenizer_directory)

    first = Submission(cluster, config, "refresh-1")
    reach(2, config, first)
    killed = cluster.kill("worker raylet", 0, random.Random(0))
    killed_at = version_of(config)
    reach(killed_at + 1, config, first)
    stopped_s = first.stop()
    assert first.status == JobStatus.STOPPED
    assert "stopping: what is finished is committed first" in first.log()
    assert stopped_s < 30
    num_committed = num_finished(config)
    assert 0 < num_committed < NUM_VIDEOS

    cluster.heal()
    again = Submission(cluster, config, "refresh-2")
    again.wait()
    assert again.status == JobStatus.SUCCEEDED, again.log()
    assert f"listed {NUM_VIDEOS} = tokenized" in again.log()
    (unchanged,) = re.findall(r"unchanged (\d+)", again.log())
    assert int(unchanged) == num_committed
    assert content(config) == content(undisturbed)
    calls = list_tasks(cluster.dashboard_url, filters=[("type", "=", "ACTOR_TASK")], limit=10_000)
    num_calls = sum("DecodingEncoder" in call.name for call in calls)
    print(
        json.dumps({"killed": killed, "stopped_s": round(stopped_s, 1), "done": num_committed,
                    "videos": NUM_VIDEOS, "calls": num_calls})
    )  # fmt: skip


def num_finished(config: Path) -> int:
    """Videos of which the dataset knows what became."""
    dataset = TokenDataset.open(config.parent / "tokens")
    videos = dataset.rows().read_all()["video_id"].unique()
    return len(videos) + len(dataset.quarantine())
