"""What a job's end says to a scheduler: its exit code, and one line for people."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import run_job
from pipeline.dataset import TokenDataset
from pipeline.dataset.lease import LeaseConfig, held_lease
from pipeline.exit_codes import ExitCode
from pipeline.refresh import RefreshConfig, refresh_dataset
from pipeline.storage import StorageConfig
from pipeline.tokenization import TokenizeConfig, tokenize_corpus
from tests.in_process_run import token_rows, tokenize_in_process
from tests.job_runs import REPOSITORY, job_environment, run_plain, write_config
from tests.tiny_corpus import make_corpus, tokenize_config, tokenize_values
from tests.token_samples import sample_lineage
from tests.video_factory import make_video

NUM_VIDEOS = 300
CLIPS_PER_VIDEO = 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good videos and three that are none."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def run_here(values: dict[str, Any], config_file: Path) -> int:
    """The job in this process, up to what needs Ray."""
    arguments = ["--config", str(write_config(config_file, values))]
    return run_job("", TokenizeConfig, tokenize_corpus, example="", arguments=arguments)


def test_refusals_before_any_work_have_codes_of_their_own(
    corpus: Path, tokenizer_directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tokenize_values(corpus, tokenizer_directory, tmp_path / "tokens")
    TokenDataset.create_or_open(tmp_path / "others", sample_lineage())
    cases: list[tuple[ExitCode, dict[str, Any], str]] = [
        (ExitCode.USAGE, {"sauce": {}}, "sauce: unknown key"),
        (ExitCode.LINEAGE, {"dataset": {"uri": str(tmp_path / "others")}}, "another lineage"),
        (ExitCode.SOURCE, {"source": {"uris": ["/nonexistent"]}}, "does not exist"),
        (ExitCode.FAILED, {"tokenizer": "/nonexistent"}, "no tokenizer there"),
    ]
    for code, changes, message in cases:
        assert run_here(good | changes, tmp_path / "job.yaml") == code
        assert message in capsys.readouterr().err


def test_a_refresh_of_a_held_dataset_leaves_with_its_code_and_touches_nothing(
    corpus: Path, tokenizer_directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "tokens"
    values = tokenize_values(corpus, tokenizer_directory, root)
    config = str(write_config(tmp_path / "job.yaml", values))
    with held_lease(str(root), StorageConfig(), LeaseConfig()):
        before = sorted(root.rglob("*"))
        code = run_job(
            "", RefreshConfig, refresh_dataset, example="", arguments=["--config", config]
        )
        assert sorted(root.rglob("*")) == before
    assert code == ExitCode.BUSY
    errors = capsys.readouterr().err
    assert "another refresh is under way" in errors
    assert errors.count("\n") == 1


@pytest.mark.ray
@pytest.mark.jobs
def test_more_quarantine_than_the_budget_is_said_after_all_work_is_done(
    corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    values = tokenize_values(corpus, tokenizer_directory, tmp_path / "tokens")
    config = str(write_config(tmp_path / "job.yaml", values | {"quarantine_budget": 0.4}))
    result = run_plain("tokenize_corpus", "--config", config)
    assert result.returncode == ExitCode.QUARANTINE, result.stderr
    assert "listed 6 = tokenized 3 + quarantined 3 + unchanged 0" in result.stdout
    last = result.stderr.strip().splitlines()[-1]
    assert "3 of the 6 listed videos are in quarantine, above quarantine_budget = 0.4" in last
    assert TokenDataset.open(tmp_path / "tokens").num_clips() == 9
    again = run_plain("tokenize_corpus", "--config", config)
    assert (again.returncode, "unchanged 6" in again.stdout) == (ExitCode.QUARANTINE, True)
    raised = run_plain("tokenize_corpus", "--config", config, "--set", "quarantine_budget=0.5")
    assert raised.returncode == ExitCode.DONE


@pytest.mark.ray
@pytest.mark.jobs
def test_sigterm_commits_what_is_finished_in_seconds_and_the_same_command_ends_the_work(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    """As a scheduler ends a job: to the job's own process alone, before its first commit."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    first = make_video(corpus / "000.mp4", num_frames=30)
    for index in range(1, NUM_VIDEOS):
        shutil.copy(first, corpus / f"{index:03}.mp4")
    values = tokenize_values(corpus, tokenizer_directory, tmp_path / "tokens")
    values |= {"commit": {"every_clips": None, "every_s": None}, "engine": {"num_decode_tasks": 1}}
    config = str(write_config(tmp_path / "job.yaml", values))
    job = subprocess.Popen(
        [sys.executable, "jobs/refresh_dataset.py", "--config", config],
        cwd=REPOSITORY, env=job_environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert job.stderr is not None
    lines = []
    for line in job.stderr:
        lines.append(line)
        if re.search(rf"[1-9]\d* of {NUM_VIDEOS} videos done", line):
            job.send_signal(signal.SIGTERM)
            break
    terminated_s = time.monotonic()
    _, rest = job.communicate(timeout=60)
    output = "".join(lines) + rest
    assert time.monotonic() - terminated_s < 30, output
    assert job.returncode == ExitCode.INTERRUPTED, output
    assert "interrupted; the same command continues" in output
    assert "Traceback" not in output
    num_clips = TokenDataset.open(tmp_path / "tokens").num_clips()
    assert 0 < num_clips < NUM_VIDEOS * CLIPS_PER_VIDEO
    assert num_clips % CLIPS_PER_VIDEO == 0

    rest_of_it = run_plain("refresh_dataset", "--config", config)
    assert rest_of_it.returncode == ExitCode.DONE, rest_of_it.stderr
    assert f"unchanged {num_clips // CLIPS_PER_VIDEO}" in rest_of_it.stdout
    alone = tokenize_config(corpus, tokenizer_directory, tmp_path / "alone")
    expected = tokenize_in_process(alone, batch_size=4)
    assert token_rows(tmp_path / "tokens").equals(token_rows(expected.uri))
