"""A real dataset to damage: made once, copied for each test, changed by one planted fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from pipeline.dataset import CommitConfig, Committer, TokenDataset
from pipeline.dataset.video_table import VideoTable
from pipeline.decoding.stage import DecodeStage
from pipeline.encoding import EncodeStage
from pipeline.engine import run_in_process
from pipeline.planning import plan_units
from pipeline.sources import list_videos
from pipeline.tokenization import build_lineage
from pipeline.verification import VerificationReport, VerifyConfig, verify_dataset
from sweettok import SweetTok
from sweettok.tokenizer_manifest import read_manifest
from tests.tiny_corpus import make_corpus, tokenize_config

RUN_ID = "first"
Rows = list[dict[str, Any]]


def save_lively_tokenizer(tokenizer_directory: str, directory: Path) -> str:
    """Saves a tokenizer whose decoder is not grey, so that pixels depend on tokens."""
    model = SweetTok.from_pretrained(tokenizer_directory)
    torch.manual_seed(1)
    with torch.no_grad():
        model.decoder.heads.first_frame.weight.normal_(std=0.1)
        model.decoder.heads.tubes.weight.normal_(std=0.1)
    model.save_pretrained(directory)
    return str(directory)


def make_dataset(folder: Path, tokenizer: str) -> Path:
    """Tokenizes the tiny corpus (3 videos of 3 clips, 3 broken ones) below `folder`.

    Every video has a data file of its own and every clip a recorded PSNR.
    """
    make_corpus(folder / "videos")
    tokenize_missing(folder / "videos", tokenizer, folder / "tokens", RUN_ID)
    return folder / "tokens"


def tokenize_missing(videos: Path, tokenizer: str, root: Path, run_id: str) -> None:
    """A run of the job, without Ray: works on what the dataset at `root` lacks."""
    config = tokenize_config(videos, tokenizer, root)
    model_config = SweetTok.from_pretrained(tokenizer).config
    lineage = build_lineage(config, read_manifest(tokenizer), model_config)
    dataset = TokenDataset.create_or_open(root, lineage)
    dataset.store_tokenizer(tokenizer)
    units, counts = plan_units(list_videos(config.source), dataset.finished_units())
    stage = DecodeStage(
        config.decode, config.clips, config.preprocess, lineage.geometry, config.source.storage
    )
    encode = EncodeStage(tokenizer, config.encode.model_copy(update={"psnr_fraction": 1.0}))
    committer = Committer(dataset, run_id, CommitConfig(every_clips=3, target_file_bytes=1))
    done = run_in_process(units, stage, encode, committer, batch_size=3)
    num_done = done.num_videos + done.num_quarantined
    dataset.write_run_file(run_id, "config.yaml", config.to_yaml())
    write_summary(dataset, run_id, num_listed=counts.num_listed, num_tokenized=done.num_videos,
                  num_quarantined=done.num_quarantined,
                  num_unchanged=counts.num_listed - num_done, num_clips=done.num_clips,
                  reasons={"truncated": done.num_quarantined})  # fmt: skip


def write_summary(dataset: TokenDataset, run_id: str = RUN_ID, **values: Any) -> None:
    """Keeps a summary of the run."""
    dataset.write_run_file(run_id, "summary.json", json.dumps(values))


def verified(root: Path | str, **settings: Any) -> VerificationReport:
    """The report on a dataset; no clip is made again unless asked for."""
    values = {"dataset": {"uri": str(root)}, "sample_clips": 0} | settings
    return verify_dataset(VerifyConfig.from_mapping(values))


def found_by(report: VerificationReport) -> dict[str, int]:
    """How many findings each check has, where it has any."""
    return {check.name: check.num_findings for check in report.checks if check.num_findings}


def only_finding(report: VerificationReport, check: str) -> str:
    """The text of the one finding there must be, in the check where it must be."""
    assert found_by(report) == {check: 1}, report.text()
    (finding,) = (finding for check in report.checks for finding in check.findings)
    assert finding.remedy
    return f"{finding.where}: {finding.what}"


def data_files(root: Path) -> list[Path]:
    """The files of the clip table, sorted."""
    return sorted(root.glob("part-*.parquet"))


def rewrite_rows(table: VideoTable, edit: Callable[[Rows], Rows]) -> None:
    """Commits one of a table's files again with its rows edited, past all checks of ours."""
    path = min(table.file_sizes())
    rows = table.read(path)
    video_ids = rows["video_id"].to_pylist()
    edited = pa.Table.from_pylist(edit(rows.to_pylist()), schema=rows.schema)
    table.swap(set(video_ids), [table.write(edited)], {})


def rewrite_log(table: VideoTable, change: Callable[[dict[str, Any]], None]) -> None:
    """Commits one of a table's files again with other statistics in the log."""
    path = min(table.file_sizes())
    rows = table.read(path)
    file = table.write(rows)
    statistics = json.loads(file.statistics)
    change(statistics)
    planted = replace(file, statistics=json.dumps(statistics))
    table.swap(set(rows["video_id"].to_pylist()), [planted], {})
