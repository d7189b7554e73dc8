"""Jobs submitted to a cluster that has nothing of ours: they run, and Prometheus sees them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from pipeline.dataset import TokenDataset
from pipeline.dataset.commits import CommitConflictError
from pipeline.exit_codes import ExitCode
from tests.bare_cluster import BareHead, bare_head, bare_python
from tests.job_runs import REPOSITORY, submit, write_config
from tests.metrics_scrape import Sample, samples_of, total
from tests.test_run_record import expected_metrics
from tests.test_upload import RUNTIME_ENV
from tests.tiny_corpus import BROKEN, CLIPS_PER_GOOD_VIDEO, GOOD, make_corpus, tokenize_values
from tests.tiny_models import tiny_config

pytestmark = [pytest.mark.jobs, pytest.mark.ray]

SHIPPED = ("--runtime-env", str(RUNTIME_ENV), "--working-dir", ".")
WHENCE = "import pipeline, sweettok; print('from', pipeline.__file__, sweettok.__file__)"
NUM_COPIES = 4000  # minutes of work, of which the test lets as much be done as it needs


@pytest.fixture(scope="module")
def head() -> Iterator[BareHead]:
    with bare_head(num_cpus=4, stop_wait_s=60) as head:
        yield head


@pytest.fixture(scope="module")
def client(head: BareHead) -> JobSubmissionClient:
    token = head.node.environment["RAY_AUTH_TOKEN"]
    headers = {"Authorization": f"Bearer {token}"}
    return JobSubmissionClient(head.node.dashboard_url, headers=headers)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def values(corpus: Path, tokenizer_directory: str, tmp_path: Path) -> dict[str, Any]:
    """A run over the corpus into a dataset of the test's own."""
    return tokenize_values(corpus, tokenizer_directory, tmp_path / "tokens")


def test_the_clusters_python_has_nothing_of_ours(tmp_path: Path) -> None:
    python = bare_python(tmp_path / "venv")
    script = "import importlib.util as u, sys; print(u.find_spec(sys.argv[1]) is not None)"
    cases = {"ray": True, "torch": True, "pipeline": False, "sweettok": False}
    for module, is_there in cases.items():
        found = subprocess.run(
            [python, "-c", script, module],
            cwd=tmp_path, env={}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert found.stdout.strip() == str(is_there), module


def test_a_job_runs_from_the_upload_alone_and_its_id_is_taken_once(
    head: BareHead, client: JobSubmissionClient, values: dict[str, Any], tmp_path: Path
) -> None:
    config = write_config(tmp_path / "job.yaml", values)
    doctor = f"python jobs/doctor.py --config {config} --no-cluster"
    job = f"python jobs/tokenize_corpus.py --config {config}"
    script = f'python -c "{WHENCE}" && {doctor} && {job}'
    words = ("--submission-id", "refresh-tokens-1", *SHIPPED, "--", "sh", "-c", script)
    result = submit(head.node, *words)
    assert result.returncode == 0, result.stdout + result.stderr
    (modules,) = re.findall(r"^from (\S+) (\S+)$", result.stdout, re.MULTILINE)
    for module in modules:
        assert Path(module).is_relative_to(
            head.session.resolve() / "runtime_resources" / "working_dir_files"
        )
    assert re.search(r"^ok +packages: Python", result.stdout, re.MULTILINE)
    assert "listed 6 = tokenized 3 + quarantined 3 + unchanged 0" in result.stdout
    dataset = TokenDataset.open(tmp_path / "tokens")
    assert dataset.num_clips() == len(GOOD) * CLIPS_PER_GOOD_VIDEO

    again = submit(head.node, *words)
    assert again.returncode == 1
    assert "submission_id refresh-tokens-1 already exists" in again.stdout + again.stderr
    assert len([job for job in client.list_jobs() if job.submission_id == "refresh-tokens-1"]) == 1
    assert TokenDataset.open(tmp_path / "tokens").version == dataset.version


def test_the_jobs_api_has_the_exit_code(
    head: BareHead, client: JobSubmissionClient, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "job.yaml", {"sauce": {}})
    words = ("--", "python", "jobs/tokenize_corpus.py", "--config", str(config))
    result = submit(head.node, "--submission-id", "wrong", "--working-dir", ".", *words)
    assert result.returncode == 1
    assert client.get_job_info("wrong").driver_exit_code == ExitCode.USAGE


def test_prometheus_sees_a_running_job(
    head: BareHead,
    client: JobSubmissionClient,
    corpus: Path,
    values: dict[str, Any],
    tmp_path: Path,
) -> None:
    source = tmp_path / "corpus"
    shutil.copytree(corpus, source)
    for index in range(NUM_COPIES):
        os.link(source / GOOD[0], source / f"copy{index:04}.mp4")
    values |= {"source": {"uris": [str(source)]}}
    values |= {"commit": {"every_clips": 12}, "engine": {"num_decode_tasks": 1}}
    begin(client, "watched", write_config(tmp_path / "job.yaml", values))
    running = watched(head, client, str(tmp_path / "tokens"))
    assert expected_metrics() <= {sample.name for sample in running}
    assert {s.labels["stage"] for s in running if s.name == "ray_sweettok_queue_depth"} == {
        "decode", "encode", "commit"
    }  # fmt: skip
    assert 0 < total(running, "videos_total") < NUM_COPIES
    client.stop_job("watched")
    assert end_of(client, "watched") == JobStatus.STOPPED


def test_prometheus_has_all_of_an_ended_job(
    head: BareHead, client: JobSubmissionClient, values: dict[str, Any], tmp_path: Path
) -> None:
    values |= {"commit": {"every_clips": CLIPS_PER_GOOD_VIDEO}, "engine": {"num_decode_tasks": 1}}
    begin(client, "ended", write_config(tmp_path / "job.yaml", values))
    assert end_of(client, "ended") == JobStatus.SUCCEEDED, client.get_job_logs("ended")
    (summary,) = (tmp_path / "tokens" / "_runs").glob("*/summary.json")
    counts = json.loads(summary.read_text())["totals"]
    assert counts["num_videos"] == len(GOOD) + len(BROKEN)
    assert_all_counted(head, str(tmp_path / "tokens"), counts)


def begin(client: JobSubmissionClient, name: str, config: Path) -> None:
    """Submits the corpus job under that name."""
    client.submit_job(
        entrypoint=f"python jobs/tokenize_corpus.py --config {config}",
        submission_id=name,
        runtime_env={"working_dir": str(REPOSITORY)},
    )


def end_of(client: JobSubmissionClient, name: str) -> JobStatus:
    """Waits for it."""
    while not (status := client.get_job_status(name)).is_terminal():
        time.sleep(0.2)
    return status


def watched(head: BareHead, client: JobSubmissionClient, uri: str) -> list[Sample]:
    """Scrapes until every metric of the dashboard is there; beside it, another writer commits."""
    while True:
        status, log = client.get_job_status("watched"), client.get_job_logs("watched")
        assert status in {JobStatus.PENDING, JobStatus.RUNNING}, log
        samples = samples_of(head.session, uri)
        names = {sample.name for sample in samples}
        if expected_metrics() <= names:
            return samples
        if TokenDataset.exists(uri) and "ray_sweettok_retries_total" not in names:
            rival = TokenDataset.open(uri)
            for _ in range(10):
                commit_nothing(rival)
        time.sleep(0.5)  # in which the job gets through


def commit_nothing(dataset: TokenDataset) -> None:
    """Moves the table on, so that a commit that comes from an older state is tried again."""
    dataset.refresh()
    with contextlib.suppress(CommitConflictError):
        dataset.clips.swap([], [], {}, even_if_empty=True)


def assert_all_counted(head: BareHead, uri: str, counts: dict[str, Any]) -> None:
    """The last counts arrive although the process that counted has ended."""
    deadline_s = time.monotonic() + 30
    names = {"videos": "num_videos", "clips": "num_clips", "frames": "num_frames",
             "tokens": "num_tokens", "bytes_in": "bytes_in", "bytes_out": "bytes_out",
             "commits": "num_commits", "retries": "num_retries"}  # fmt: skip
    while True:
        samples = samples_of(head.session, uri)
        found = {name: total(samples, f"{name}_total") for name in names}
        expected = {name: counts[attribute] for name, attribute in names.items()}
        if found == expected or time.monotonic() > deadline_s:
            break
        time.sleep(0.5)
    assert found == expected
    for stage in ("decode", "encode", "commit"):
        seconds = total(samples, "stage_seconds_total", stage=stage)
        assert seconds == pytest.approx(counts[f"{stage}_s"])
    for reason, count in counts["reasons"].items():
        assert total(samples, "quarantined_total", reason=reason) == count
    assert total(samples, "commit_latency_seconds_count") == counts["num_commits"]
    assert total(samples, "tokens_total") == counts["num_clips"] * tiny_config().num_tokens
