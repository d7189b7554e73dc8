"""The jobs as users run them: plain, against a running cluster, and submitted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import fsspec
import polars
import pytest

from sweettok import Lexicon, SweetTok
from tests.job_runs import (
    run_on_cluster,
    run_plain,
    run_submitted,
    write_config,
)
from tests.s3_server import SECRET
from tests.tiny_corpus import CLIPS_PER_GOOD_VIDEO, GOOD, make_corpus, tokenize_values
from tests.tiny_models import tiny_config
from tests.training_workers import train_values

pytestmark = [pytest.mark.jobs, pytest.mark.ray]

Runner: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]
NUM_CLIPS = len(GOOD) * CLIPS_PER_GOOD_VIDEO
WAYS = ("plain", "cluster", "submitted")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(params=WAYS)
def run_job(request: pytest.FixtureRequest) -> Runner:
    """The way a job is run."""
    if request.param == "plain":
        return run_plain
    head = request.getfixturevalue("head_node")
    run = run_on_cluster if request.param == "cluster" else run_submitted
    return lambda *arguments: run(head, *arguments)


@pytest.mark.parametrize("run_job", ["plain", "submitted"], indirect=True)
def test_train_tokenizer(run_job: Runner, corpus: Path, lexicon: Lexicon, tmp_path: Path) -> None:
    lexicon.save(tmp_path / "lexicon")
    values = train_values(corpus, tmp_path / "lexicon", tmp_path)
    config = write_config(tmp_path / "train.yaml", values)
    result = run_job("train_tokenizer", "--config", str(config))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "trained for 4 steps" in result.stdout
    assert SweetTok.from_pretrained(tmp_path / "tokenizer").config == tiny_config()
    assert "num_steps: 4" in (tmp_path / "tokenizer" / "config.yaml").read_text()
    metrics = str(tmp_path / "tokenizer" / "metrics.jsonl")
    picture = tmp_path / "curves.png"
    plot = write_config(tmp_path / "plot.yaml", {"metrics": metrics, "picture": str(picture)})
    drawn = run_plain("plot_training", "--config", str(plot))
    assert drawn.returncode == 0, drawn.stderr
    assert picture.stat().st_size > 1000


def test_tokenize_corpus(
    run_job: Runner, corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    values = tokenize_values(corpus, tokenizer_directory, tmp_path / "tokens")
    config = write_config(tmp_path / "tokenize.yaml", values)
    result = run_job("tokenize_corpus", "--config", str(config))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "listed 6 = tokenized 3 + quarantined 3 + unchanged 0" in result.stdout
    assert polars.read_delta(str(tmp_path / "tokens")).height == NUM_CLIPS
    assert list((tmp_path / "tokens" / "_runs").glob("*/config.yaml"))


@pytest.fixture(scope="module")
def dataset(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, tokenizer_directory: str
) -> Path:
    root = tmp_path_factory.mktemp("dataset")
    values = tokenize_values(corpus, tokenizer_directory, root / "tokens")
    config = write_config(root / "tokenize.yaml", values)
    result = run_plain("tokenize_corpus", "--config", str(config))
    assert result.returncode == 0, result.stderr
    return root / "tokens"


@pytest.mark.parametrize("run_job", ["plain", "submitted"], indirect=True)
def test_decode_dataset(run_job: Runner, dataset: Path, tmp_path: Path) -> None:
    values = {"dataset": {"uri": str(dataset)}, "output": str(tmp_path / "decoded")}
    config = write_config(tmp_path / "decode.yaml", values)
    result = run_job("decode_dataset", "--config", str(config), "--set", "sheet_clips=3")
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list((tmp_path / "decoded").glob("*.mp4"))) == NUM_CLIPS
    assert (tmp_path / "decoded" / "contact_sheet.png").stat().st_size > 1000
    assert "sheet_clips: 3" in (tmp_path / "decoded" / "config.yaml").read_text()


def test_tokenize_corpus_from_s3_to_s3(
    endpoint_url: str, corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    bucket = fsspec.filesystem("s3", client_kwargs={"endpoint_url": endpoint_url})
    bucket.put(str(corpus), "corpus/videos", recursive=True)
    storage = {"endpoint_url": endpoint_url, "region": "us-east-1"}
    values = tokenize_values(corpus, tokenizer_directory, tmp_path)
    values["source"] = {"uris": ["s3://corpus/videos"], "storage": storage}
    values["dataset"] = {"uri": "s3://corpus/tokens", "storage": storage}
    config = write_config(tmp_path / "tokenize.yaml", values)
    first = run_plain("tokenize_corpus", "--config", str(config))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "listed 6 = tokenized 3 + quarantined 3 + unchanged 0" in first.stdout
    again = run_plain("tokenize_corpus", "--config", str(config))
    assert "unchanged 6" in again.stdout, again.stderr

    decode = {
        "dataset": values["dataset"], "output": str(tmp_path / "out"), "source_storage": storage
    }  # fmt: skip
    decoded = run_plain(
        "decode_dataset", "--config", str(write_config(tmp_path / "decode.yaml", decode))
    )
    assert decoded.returncode == 0, decoded.stderr
    assert len(list((tmp_path / "out").glob("*.mp4"))) == NUM_CLIPS
    stored = b"".join(
        bucket.cat(path) for path in bucket.find("corpus/tokens") if "/_tokenizer/" not in path
    )
    assert SECRET.encode() not in stored


@pytest.mark.parametrize("job", ["train_tokenizer", "tokenize_corpus", "decode_dataset"])
def test_help_and_wrong_settings(job: str, tmp_path: Path) -> None:
    shown = run_plain(job, "--help")
    assert shown.returncode == 0
    for expected in ("--config", "--set", "--print-config", "example:", "exit codes"):
        assert expected in shown.stdout
    config = write_config(tmp_path / "config.yaml", {"dataset": {"uri": "x", "urrl": "y"}})
    wrong = run_plain(job, "--config", str(config))
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
    assert f"{config}: " in wrong.stderr
    assert run_plain(job).returncode == 2


def test_failures_are_one_line(tmp_path: Path) -> None:
    values = {"dataset": {"uri": str(tmp_path / "nothing")}, "output": str(tmp_path / "out")}
    config = write_config(tmp_path / "decode.yaml", values)
    result = run_plain("decode_dataset", "--config", str(config))
    assert result.returncode == 1
    assert result.stderr.startswith("decode_dataset.py: ")
    assert len(result.stderr.strip().splitlines()) == 1
    unreachable = write_config(
        tmp_path / "tokenize.yaml",
        {"source": {"uris": [str(tmp_path)]}, "tokenizer": "nowhere", "dataset": {"uri": "x"}},
    )
    result = run_plain("tokenize_corpus", "--config", str(unreachable))
    assert result.returncode == 1
    assert "no tokenizer there" in result.stderr
    assert "Traceback" not in result.stderr
