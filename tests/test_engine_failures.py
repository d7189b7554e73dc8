"""What the engine does when something dies, hangs, fails too often or is interrupted."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.dataset import TokenDataset
from pipeline.errors import PipelineError
from pipeline.tokenization import TokenizeConfig, tokenize_corpus
from tests.job_runs import REPOSITORY, job_environment, write_config
from tests.tiny_corpus import make_corpus, tokenize_config, tokenize_values
from tests.video_factory import make_video

pytestmark = pytest.mark.ray

NUM_MANY = 60
CLIPS_PER_VIDEO = 3


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty videos of three clips each."""
    folder = tmp_path_factory.mktemp("many")
    first = make_video(folder / "00.mp4", num_frames=30)
    for index in range(1, NUM_MANY):
        shutil.copy(first, folder / f"{index:02}.mp4")
    return folder


@contextlib.contextmanager
def while_running(strike: Callable[[], bool]) -> Iterator[None]:
    """Calls `strike` again and again in a thread until it is true or the block ends."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.is_set() and not strike():
            time.sleep(0.005)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def own_processes() -> Iterator[tuple[psutil.Process, str]]:
    """The processes below this one and their command lines."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            yield process, " ".join(process.cmdline())


def kill_committer_after(config: TokenizeConfig, version: int) -> Callable[[], bool]:
    """Kills the committer once the dataset has reached a version; true when it is done."""
    log = Path(config.dataset.uri) / "_delta_log" / f"{version:020}.json"

    def strike() -> bool:
        if not log.exists():
            return False
        for process, command in own_processes():
            if command.startswith("ray::StreamCommitter"):
                process.kill()
                return True
        return False

    return strike


def many_config(many: Path, tokenizer: str, dataset: Path, **engine: object) -> TokenizeConfig:
    return tokenize_config(
        many, tokenizer, dataset, commit={"every_clips": 9}, engine={"num_decode_tasks": 1} | engine
    )


def test_a_killed_committer_costs_nothing(
    ray_cluster: None, many: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    """The run goes on from what is committed, and its account is that of an undisturbed one."""
    config = many_config(many, tokenizer_directory, tmp_path / "tokens")
    with while_running(kill_committer_after(config, 2)):
        summary = tokenize_corpus(config)
    assert (summary.num_tokenized, summary.num_clips) == (NUM_MANY, CLIPS_PER_VIDEO * NUM_MANY)
    assert summary.num_unchanged == 0
    rows = TokenDataset.open(config.dataset.uri).rows(["clip_id", "run_id"]).read_all()
    assert len(set(rows["clip_id"].to_pylist())) == CLIPS_PER_VIDEO * NUM_MANY
    assert set(rows["run_id"].to_pylist()) == {summary.run_id}


def test_a_run_that_may_not_go_on_by_itself_says_what_to_do(
    ray_cluster: None, many: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    config = many_config(many, tokenizer_directory, tmp_path / "tokens", max_restarts=0)
    with (
        while_running(kill_committer_after(config, 2)),
        pytest.raises(PipelineError, match="run the same command again") as caught,
    ):
        tokenize_corpus(config)
    assert "\n" not in str(caught.value)
    assert "engine.max_restarts = 0" in str(caught.value)
    num_committed = TokenDataset.open(config.dataset.uri).num_clips() // CLIPS_PER_VIDEO
    summary = tokenize_corpus(config)
    assert summary.num_unchanged == num_committed > 0
    assert summary.num_tokenized == NUM_MANY - num_committed


def test_a_run_that_quarantines_too_much_stops_early_and_keeps_what_is_finished(
    ray_cluster: None, tokenizer_directory: str, tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    for index in range(40):
        (corpus / f"text-{index:02}.mp4").write_text("this is no video\n" * 50)
    limit = {"max_quarantine_fraction": 0.4, "min_units_for_fraction": 5, "num_decode_tasks": 1}
    config = tokenize_config(corpus, tokenizer_directory, tmp_path / "tokens", engine=limit)
    with pytest.raises(PipelineError, match=r"max_quarantine_fraction = 0\.4") as caught:
        tokenize_corpus(config)
    assert re.search(r"\n  \d+ not_a_video: file://\S+text-\d\d\.mp4: ", str(caught.value))
    finished = TokenDataset.open(config.dataset.uri).finished_units().to_table()
    assert 5 <= finished.num_rows < 46
    all_allowed = config.model_copy(
        update={"engine": config.engine.model_copy(update={"max_quarantine_fraction": None})}
    )
    summary = tokenize_corpus(all_allowed)
    assert summary.num_unchanged == finished.num_rows
    assert summary.num_tokenized + summary.num_quarantined == 46 - finished.num_rows
    assert TokenDataset.open(config.dataset.uri).num_clips() == 9


def test_videos_that_crash_or_hang_their_decoder_cost_only_themselves(
    ray_cluster: None, tokenizer_directory: str, tmp_path: Path
) -> None:
    """Whatever process opens one file dies, whatever opens another one stands still."""
    corpus = make_corpus(tmp_path / "corpus")
    long = make_video(corpus / "crash.mp4", num_frames=1500)
    shutil.copy(long, corpus / "hang.mp4")
    config = tokenize_config(
        corpus, tokenizer_directory, tmp_path / "tokens", decode={"deadline_s": 3}
    )
    signals = {str(corpus / "crash.mp4"): signal.SIGSEGV, str(corpus / "hang.mp4"): signal.SIGSTOP}

    def strike() -> bool:
        for process, command in own_processes():
            if "pipeline.decoding.child" in command:
                for path in open_paths(process.pid) & signals.keys():
                    process.send_signal(signals[path])
        return False

    with while_running(strike):
        summary = tokenize_corpus(config)
    assert (summary.num_listed, summary.num_tokenized) == (8, 3)
    assert summary.reasons["decoder_crash"] == 1
    assert summary.reasons["deadline_exceeded"] == 1
    rows = TokenDataset.open(config.dataset.uri).quarantine().to_pylist()
    reasons = {Path(row["video_uri"]).name: row["reason"] for row in rows}
    assert reasons["crash.mp4"] == "decoder_crash"
    assert reasons["hang.mp4"] == "deadline_exceeded"


def open_paths(pid: int) -> set[str]:
    """The files that a process has open."""
    paths = set()
    with contextlib.suppress(OSError):
        for link in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                paths.add(os.readlink(link.path))
    return paths


@pytest.mark.jobs
def test_an_interrupted_run_commits_what_is_finished(
    many: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    """Ctrl-C in a run that would otherwise commit at its very end."""
    corpus = tmp_path / "corpus"
    for copy in range(8):
        shutil.copytree(many, corpus / str(copy))
    values = tokenize_values(corpus, tokenizer_directory, tmp_path / "tokens")
    values |= {"commit": {"every_clips": None, "every_s": None}, "engine": {"num_decode_tasks": 1}}
    command = [sys.executable, "jobs/tokenize_corpus.py", "--config"]
    command.append(str(write_config(tmp_path / "job.yaml", values)))
    job = subprocess.Popen(
        command, cwd=REPOSITORY, env=job_environment(), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert job.stderr is not None
    lines = []
    for line in job.stderr:
        lines.append(line)
        if re.search(r"[1-9]\d* of 480 videos done", line):
            os.killpg(job.pid, signal.SIGINT)  # as a terminal does
            break
    _, rest = job.communicate(timeout=120)
    output = "".join(lines) + rest
    assert job.returncode == 130, output
    assert "interrupted; the same command continues" in output
    assert "Traceback" not in output
    dataset = TokenDataset.open(tmp_path / "tokens")
    assert dataset.version == 1
    assert 0 < dataset.num_clips() < 480 * CLIPS_PER_VIDEO
    assert dataset.num_clips() % CLIPS_PER_VIDEO == 0
