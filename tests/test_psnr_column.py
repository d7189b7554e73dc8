"""The column `psnr_db`: which clips have it, what it says, and tables that came before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.dataset import TokenDataset
from pipeline.dataset.assembly import CompletedUnit
from pipeline.dataset.rows import token_rows
from pipeline.dataset.schema import QUARANTINE_SCHEMA, TOKEN_SCHEMA
from pipeline.dataset.video_table import VideoTable
from pipeline.encoding import EncodeConfig, EncodeStage, is_measured
from pipeline.errors import DatasetError
from pipeline.reconstruction import stored_clips
from pipeline.records import Clip, ClipWindow, TokenizedClip
from pipeline.transport import records_to_table, table_to_records
from sweettok import SweetTok, Tokens, video_to_pixels
from tests.token_samples import (
    SOURCE,
    commit_all,
    sample_lineage,
    tokenized_clip,
    unit_records,
    work_unit,
)

NUM_CLIPS = 12


@pytest.fixture(scope="module")
def lively_directory(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: str) -> str:
    """A saved tokenizer whose pixels depend on its tokens."""
    model = SweetTok.from_pretrained(tokenizer_directory)
    torch.manual_seed(1)
    with torch.no_grad():
        model.decoder.heads.first_frame.weight.normal_(std=0.1)
        model.decoder.heads.tubes.weight.normal_(std=0.1)
    directory = tmp_path_factory.mktemp("lively")
    model.save_pretrained(directory)
    return str(directory)


def clips() -> list[Clip]:
    random = np.random.default_rng(0)
    return [
        Clip(
            work_unit("a.mp4"),
            ClipWindow(index, tuple(range(9)), 0.0, 1.0),
            SOURCE,
            random.integers(0, 256, (9, 32, 48, 3), dtype=np.uint8),
        )
        for index in range(NUM_CLIPS)
    ]


def encoded(directory: str, fraction: float, batch_size: int, **settings: Any) -> list[Any]:
    stage = EncodeStage(directory, EncodeConfig(psnr_fraction=fraction, **settings))
    stage.setup()
    all_clips = clips()
    batches = [all_clips[at : at + batch_size] for at in range(0, NUM_CLIPS, batch_size)]
    tokenized = [clip for batch in batches for clip in stage.process(batch)]
    stage.close()
    return tokenized


def psnr_of(original: np.ndarray, decoded: np.ndarray) -> float:
    """The definition, in integers and double precision."""
    error = (original.astype(np.int64) - decoded.astype(np.int64)) ** 2
    return float(10 * np.log10(255**2 / error.mean()))


def test_the_stored_psnr_is_that_of_the_decoded_tokens(lively_directory: str) -> None:
    model = SweetTok.from_pretrained(lively_directory)
    for clip, tokenized in zip(clips(), encoded(lively_directory, 1.0, 4), strict=True):
        tokens = Tokens(
            torch.from_numpy(tokenized.spatial_tokens.astype(np.int64))[None],
            torch.from_numpy(tokenized.temporal_tokens.astype(np.int64))[None],
        )
        decoded = video_to_pixels(model.decode(tokens)).numpy()[0]
        assert tokenized.psnr_db == pytest.approx(psnr_of(clip.frames, decoded), abs=0.006)


def test_measuring_changes_no_token_and_depends_on_no_batch(lively_directory: str) -> None:
    without = encoded(lively_directory, 0.0, 4)
    for batch_size in (1, 4, NUM_CLIPS):
        measured = encoded(lively_directory, 1.0, batch_size)
        assert [clip.psnr_db for clip in measured] == [
            clip.psnr_db for clip in encoded(lively_directory, 1.0, 3)
        ]
        for plain, clip in zip(without, measured, strict=True):
            assert np.array_equal(plain.spatial_tokens, clip.spatial_tokens)
            assert np.array_equal(plain.temporal_tokens, clip.temporal_tokens)
    assert [clip.psnr_db for clip in without] == [None] * NUM_CLIPS


def test_a_share_of_the_clips_is_measured_whoever_encodes_them(lively_directory: str) -> None:
    half = {clip.clip_id for clip in encoded(lively_directory, 0.5, 4) if clip.psnr_db is not None}
    assert half == {clip.clip_id for clip in clips() if is_measured(clip.clip_id, 0.5)}
    assert 0 < len(half) < NUM_CLIPS
    ids = [f"{number:032x}" for number in range(0, 2**128, 2**128 // 1000)]
    assert sum(is_measured(clip_id, 0.01) for clip_id in ids) == pytest.approx(10, abs=1)
    assert not any(is_measured(clip_id, 0.0) for clip_id in ids)
    assert all(is_measured(clip_id, 1.0) for clip_id in ids)


def test_the_measure_travels_to_the_table(tmp_path: Path) -> None:
    measured = replace(tokenized_clip(work_unit("a"), 0), psnr_db=31.25)
    plain = tokenized_clip(work_unit("a"), 1)
    (first, second) = table_to_records(records_to_table([measured, plain]))
    assert isinstance(first, TokenizedClip)
    assert (first.psnr_db, second.psnr_db) == (31.25, None)
    end = unit_records(work_unit("a"), 2)[-1]
    commit_all(tmp_path / "tokens", [first, second, end])
    rows = TokenDataset.open(tmp_path / "tokens").rows(["clip_index", "psnr_db"]).read_all()
    assert rows.sort_by("clip_index")["psnr_db"].to_pylist() == [31.25, None]


def make_older_table(root: Path, *more_columns: pa.Field) -> None:
    """A dataset as it was before the column was invented, with one video in it."""
    lineage = sample_lineage()
    properties = {"sweettok.lineage": lineage.to_json(), "sweettok.fingerprint": "f"}
    older = pa.schema([field for field in TOKEN_SCHEMA if field.name != "psnr_db"])
    VideoTable.create(f"{root}/_quarantine", QUARANTINE_SCHEMA, {})
    VideoTable.create(str(root), older, properties)
    table = VideoTable(str(root))
    records = unit_records(work_unit("old"), 2)
    clips = tuple(clip for clip in records if isinstance(clip, TokenizedClip))
    rows = token_rows([CompletedUnit(clips[0].unit, clips, None)], lineage, "run")
    table.swap([], [table.write(rows.drop_columns(["psnr_db"]))], {})
    table.add_columns(more_columns)


def test_an_older_table_opens_reads_and_takes_new_rows(tmp_path: Path) -> None:
    root = tmp_path / "tokens"
    make_older_table(root)
    older = TokenDataset.open(root)
    assert "psnr_db" not in older.rows().read_all().column_names
    assert [clip.clip_index for clip in stored_clips(older)] == [0, 1]
    first, *others = unit_records(work_unit("new"), 2)
    assert isinstance(first, TokenizedClip)
    commit_all(root, [replace(first, psnr_db=20.0), *others])
    rows = TokenDataset.open(root).rows(["video_uri", "clip_index", "psnr_db"]).read_all()
    rows = rows.sort_by([("video_uri", "ascending"), ("clip_index", "ascending")])
    assert rows["psnr_db"].to_pylist() == [20.0, None, None, None]
    # A changed video takes rows out of a file that lacks the column.
    commit_all(root, unit_records(work_unit("old", "2"), 1))
    assert TokenDataset.open(root).rows().read_all().num_rows == 3
    assert TokenDataset.open(root, version=1).num_clips() == 2


def test_a_user_column_of_that_name_is_refused_clearly(tmp_path: Path) -> None:
    make_older_table(tmp_path / "tokens", pa.field("psnr_db", pa.string()))
    with pytest.raises(DatasetError, match=r"'psnr_db' of type string, ours .* is float"):
        commit_all(tmp_path / "tokens", unit_records(work_unit("new"), 2))
    assert TokenDataset.open(tmp_path / "tokens").num_clips() == 2
