"""The dataset as an object: lineage, columns, side folders, and what it refuses."""

from __future__ import annotations

import hashlib
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipeline.dataset import Committer, Lineage, TokenDataset
from pipeline.dataset.assembly import CompletedUnit
from pipeline.dataset.data_files import content_hash_in
from pipeline.dataset.lineage import Predecessor
from pipeline.dataset.rows import token_rows
from pipeline.dataset.schema import TOKEN_SCHEMA, check_attribute_names
from pipeline.dataset.storage_options import delta_storage_options
from pipeline.errors import DatasetError, LineageError
from pipeline.records import ClipWindow, TokenizedClip, UnitEnd
from pipeline.storage import StorageConfig
from sweettok.geometry import ClipGeometry
from tests.token_samples import (
    listed_video,
    quarantined,
    sample_lineage,
    tokenized_clip,
    unit_records,
    work_unit,
)

WEIGHTS = bytes(range(256)) * 40_000  # several blocks


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "tokens with space"


def committed(root: Path, *records: TokenizedClip | UnitEnd, run_id: str = "run") -> TokenDataset:
    dataset = TokenDataset.create_or_open(root, sample_lineage())
    committer = Committer(dataset, run_id)
    for record in records:
        committer.add(record)
    committer.close()
    return dataset


def test_a_row_says_everything_about_its_clip(root: Path) -> None:
    unit = work_unit("a.mp4", caption="a dog runs", split="train")
    dataset = committed(root, *unit_records(unit, 2))
    rows = dataset.rows().read_all().sort_by("clip_index").to_pylist()
    clip = tokenized_clip(unit, 1)
    assert len(rows) == dataset.num_clips() == 2
    assert rows[1] == {
        "clip_id": clip.clip_id,
        "video_id": unit.video_id,
        "video_uri": "file:///videos/a.mp4",
        "video_fingerprint": unit.fingerprint,
        "clip_index": 1,
        "start_s": 0.5,
        "end_s": 1.5,
        "frame_indices": [5, 6, 7, 8, 9],
        "num_padded_frames": 0,
        "num_frames": 5,
        "height_px": 64,
        "width_px": 96,
        "source_width_px": 640,
        "source_height_px": 360,
        "source_fps": 29.97,
        "source_codec": "h264",
        "decoder": "pyav",
        "spatial_tokens": clip.spatial_tokens.tolist(),
        "temporal_tokens": clip.temporal_tokens.tolist(),
        "psnr_db": None,
        "run_id": "run",
        "caption": "a dog runs",
        "split": "train",
    }


def test_token_ids_stay_int16_on_disk_and_when_read(root: Path) -> None:
    dataset = committed(root, *unit_records(work_unit("a"), 1))
    assert dataset.arrow_dataset().schema.field("spatial_tokens").type.value_type == pa.int16()
    (file,) = root.glob("part-*.parquet")
    assert pq.read_schema(file).field("temporal_tokens").type.value_type == pa.int16()


def test_a_data_file_is_named_after_its_content_and_checks_its_pages(root: Path) -> None:
    dataset = committed(root, *unit_records(work_unit("a"), 50))
    (file,) = root.glob("part-*.parquet")
    content = bytearray(file.read_bytes())
    assert content_hash_in(file.name) == hashlib.sha256(content).hexdigest()[:32]
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    content[column.data_page_offset + column.total_compressed_size - 5] ^= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="CRC"):
        dataset.clips.read(file.name)
    assert content_hash_in("part-0123.zstd.parquet") is None


def test_rows_stream_only_the_columns_and_rows_asked_for(root: Path) -> None:
    dataset = committed(root, *unit_records(work_unit("a"), 3), *unit_records(work_unit("b"), 2))
    batches = dataset.rows(["clip_index"], pc.field("video_uri") == "file:///videos/b")
    assert batches.read_all().to_pydict() == {"clip_index": [0, 1]}


def test_a_filter_finds_rows_by_columns_that_the_log_knows_nothing_of(root: Path) -> None:
    committed(root, *unit_records(work_unit("a"), 3))
    committed(root, *unit_records(work_unit("b", caption="x"), 2))
    no_statistics = (pc.field("caption") == "x", pc.field("run_id") == "run")
    columns = ["video_uri"]
    for filtered, num_rows in zip(no_statistics, (2, 5), strict=True):
        assert TokenDataset.open(root).rows(columns, filtered).read_all().num_rows == num_rows
        others = DeltaTable(str(root)).to_pyarrow_dataset()
        assert others.to_table(columns, filter=filtered).num_rows == num_rows
    # A table of an earlier version lacks the property that keeps such filters right.
    for log in (root / "_delta_log").glob("*.json"):
        text = log.read_text()
        log.write_text(text.replace("delta.dataSkippingStatsColumns", "sweettok.unused"))
    for filtered, num_rows in zip(no_statistics, (2, 5), strict=True):
        assert TokenDataset.open(root).rows(columns, filtered).read_all().num_rows == num_rows
    older = DeltaTable(str(root)).to_pyarrow_dataset()
    assert older.to_table(filter=no_statistics[0]).num_rows == 0  # what we are protected from
    dataset = TokenDataset.create_or_open(root, sample_lineage())
    assert dataset.clips.configuration["delta.dataSkippingStatsColumns"].startswith("video_id")


def test_lineage_and_config_are_read_back(root: Path) -> None:
    lineage = sample_lineage()
    TokenDataset.create_or_open(root, lineage, config_yaml="seed: 1\n")
    dataset = TokenDataset.open(root)
    assert dataset.lineage == lineage
    assert dataset.config_yaml == "seed: 1\n"
    properties = DeltaTable(str(root)).metadata().configuration
    assert properties["sweettok.fingerprint"] == lineage.fingerprint


def test_versions_of_libraries_are_no_part_of_the_identity() -> None:
    other = sample_lineage(versions={"sweettok": "9.9.9"})
    assert other.fingerprint == sample_lineage().fingerprint
    assert other.difference(sample_lineage()) == []


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("weights_hash", "x", f'weights_hash: "{"w" * 64}" → "x"'),
        ("codebook_hash", "x", f'codebook_hash: "{"c" * 64}" → "x"'),
        ("geometry", ClipGeometry(num_frames=5, height_px=64, width_px=64),
         "geometry.width_px: 96 → 64"),
        ("num_temporal_tokens", 4, "num_temporal_tokens: 10 → 4"),
        ("num_spatial_words", 7, "num_spatial_words: 500 → 7"),
        ("preprocessing", {"resize": "crop"}, "preprocessing.range: [-1, 1] → (absent)"),
        ("clip_policy", {"fps": 8.0, "stride": 2}, "clip_policy.stride: (absent) → 2"),
        ("decoder", "decord", 'decoder: "pyav,decord" → "decord"'),
        ("precision", "bf16", 'precision: "fp32" → "bf16"'),
    ],
)  # fmt: skip
def test_another_lineage_is_refused_field_by_field(
    root: Path, field: str, value: object, line: str
) -> None:
    TokenDataset.create_or_open(root, sample_lineage())
    other = sample_lineage(**{field: value})
    assert other.fingerprint != sample_lineage().fingerprint
    with pytest.raises(LineageError) as caught:
        TokenDataset.create_or_open(root, other)
    message = str(caught.value)
    assert [text.strip() for text in message.splitlines()[1:-1]] == [line]
    assert "write to another dataset" in message


def test_a_dataset_may_continue_another_one_under_its_own_lineage(
    root: Path, tmp_path: Path
) -> None:
    older = committed(root, *unit_records(work_unit("a"), 1), quarantined(work_unit("b")))
    older.take_down(["file:///videos/c"], run_id="legal", reason="request 17")
    lineage = sample_lineage(precision="bf16")
    with pytest.raises(LineageError, match=rf"dataset\.new_version_of={root}"):
        TokenDataset.create_or_open(root, lineage)
    newer = TokenDataset.create_or_open(tmp_path / "newer", lineage, new_version_of=root)
    assert newer.predecessor == Predecessor(str(root), 2, sample_lineage().fingerprint)
    assert newer.num_clips() == 0
    (row,) = newer.quarantine().to_pylist()
    assert (row["video_uri"], row["reason"]) == ("file:///videos/c", "taken_down")
    assert (older.predecessor, newer.lineage) == (None, lineage)

    committed(root, *unit_records(work_unit("d"), 1))
    shutil.rmtree(root)  # the same command again needs the older one no more
    again = TokenDataset.create_or_open(tmp_path / "newer", lineage, new_version_of=root)
    assert (again.predecessor, again.version) == (newer.predecessor, newer.version)


def test_what_cannot_be_continued_is_refused(root: Path, tmp_path: Path) -> None:
    TokenDataset.create_or_open(root, sample_lineage())
    lineage = sample_lineage(precision="bf16")
    with pytest.raises(DatasetError, match="a new version of itself"):
        TokenDataset.create_or_open(tmp_path / "x", lineage, new_version_of=tmp_path / "x")
    with pytest.raises(DatasetError, match="tokens of this very lineage; append to it"):
        TokenDataset.create_or_open(tmp_path / "x", sample_lineage(), new_version_of=root)
    with pytest.raises(DatasetError, match="there is no Delta table"):
        TokenDataset.create_or_open(tmp_path / "x", lineage, new_version_of=tmp_path / "nowhere")
    assert not DeltaTable.is_deltatable(str(tmp_path / "x"))
    TokenDataset.create_or_open(tmp_path / "own", lineage)
    with pytest.raises(DatasetError, match="is a dataset of its own, not a new version of"):
        TokenDataset.create_or_open(tmp_path / "own", lineage, new_version_of=root)


def test_an_altered_lineage_is_an_error_not_a_crash() -> None:
    for text in ("", "[]", "{}", sample_lineage().to_json().replace('"decoder"', '"decoders"')):
        with pytest.raises(DatasetError, match="lineage cannot be read"):
            Lineage.from_json(text)


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no Delta table"):
        TokenDataset.open(tmp_path / "nowhere")
    DeltaTable.create(str(tmp_path / "other"), pa.schema([("x", pa.int32())]))
    with pytest.raises(DatasetError, match="no token dataset"):
        TokenDataset.open(tmp_path / "other")
    with pytest.raises(DatasetError, match="no token dataset"):
        TokenDataset.create_or_open(tmp_path / "other", sample_lineage())
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    with pytest.raises(DatasetError, match="holds other files"):
        TokenDataset.create_or_open(tmp_path / "videos", sample_lineage())
    with pytest.raises(DatasetError, match="is a file"):
        TokenDataset.create_or_open(tmp_path / "videos" / "a.mp4", sample_lineage())


def test_an_older_version_reads_as_it_was(root: Path) -> None:
    first = committed(root, *unit_records(work_unit("a"), 2)).version
    committed(root, *unit_records(work_unit("a", "2"), 3), *unit_records(work_unit("b"), 1))
    old = TokenDataset.open(root, version=first)
    assert (old.version, old.num_clips()) == (first, 2)
    assert sum(batch.num_rows for batch in old.rows()) == 2
    assert old.finished_units().to_table().num_rows == 1
    assert TokenDataset.open(root).num_clips() == 4
    with pytest.raises(DatasetError, match="99"):
        TokenDataset.open(root, version=99)


def test_attributes_may_differ_between_runs(root: Path) -> None:
    committed(root, *unit_records(work_unit("a", caption="x"), 1))
    dataset = committed(root, *unit_records(work_unit("b", label="y"), 1))
    assert dataset.attribute_names == ["caption", "label"]
    rows = dataset.rows(["video_uri", "caption", "label"]).read_all()
    assert rows.sort_by("video_uri").select(["caption", "label"]).to_pydict() == {
        "caption": ["x", None],
        "label": [None, "y"],
    }
    with pytest.raises(DatasetError, match="'Caption' clashes with 'caption', another attribute"):
        committed(root, *unit_records(work_unit("c", Caption="z"), 1))
    assert TokenDataset.open(root).num_clips() == 2


@pytest.mark.parametrize("name", ["clip_id", "Clip_ID", "run_id", "", "a b", "a,b", "x=y", "t\t"])
def test_attribute_names_that_cannot_be_columns_are_refused(name: str) -> None:
    with pytest.raises(DatasetError, match=r"rename it"):
        check_attribute_names([name])
    with pytest.raises(DatasetError, match=r"rename it"):
        check_attribute_names(["caption", "CAPTION"])


def test_tokens_that_the_lineage_cannot_have_made_are_refused() -> None:
    good = tokenized_clip(work_unit("a"), 0)

    def rows_of(spatial: np.ndarray, frames: int = 5) -> pa.Table:
        window = ClipWindow(0, tuple(range(frames)), 0.0, 1.0)
        clip = TokenizedClip(good.unit, window, good.source, spatial, good.temporal_tokens)
        return token_rows([CompletedUnit(good.unit, (clip,), None)], sample_lineage(), "run")

    assert rows_of(good.spatial_tokens).num_rows == 1
    with pytest.raises(DatasetError, match=r"int16\[5\], .* asks for int16\[6\]"):
        rows_of(good.spatial_tokens[:5])
    with pytest.raises(DatasetError, match="int64"):
        rows_of(good.spatial_tokens.astype(np.int64))
    with pytest.raises(DatasetError, match="the codebook has 500 words"):
        rows_of(np.array([0, 1, 2, 3, 4, 500], np.int16))
    with pytest.raises(DatasetError, match="the codebook has 500 words"):
        rows_of(np.array([0, 1, 2, 3, 4, -1], np.int16))
    with pytest.raises(DatasetError, match="has 4 frames"):
        rows_of(good.spatial_tokens, frames=4)


def test_the_tokenizer_travels_with_the_dataset(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "tokenizer"
    (source / "lexicon").mkdir(parents=True)
    (source / "model.safetensors").write_bytes(WEIGHTS)
    (source / "lexicon" / "words.json").write_text('["dog"]')
    dataset = TokenDataset.create_or_open(root, sample_lineage())
    with pytest.raises(DatasetError, match="not stored completely"):
        dataset.tokenizer_files(tmp_path / "cache")
    dataset.store_tokenizer(source)
    dataset.store_tokenizer(source)
    fetched = TokenDataset.open(root).tokenizer_files(tmp_path / "cache")
    files = {p.relative_to(fetched).as_posix(): p.read_bytes() for p in fetched.rglob("*.*")}
    assert files == {"model.safetensors": WEIGHTS, "lexicon/words.json": b'["dog"]'}
    assert dataset.tokenizer_files(tmp_path / "cache") == fetched

    (source / "model.safetensors").write_bytes(b"others")
    with pytest.raises(DatasetError, match="never replaced"):
        dataset.store_tokenizer(source)
    stored = root / "_tokenizer" / dataset.lineage.fingerprint / "model.safetensors"
    stored.write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"model\.safetensors is missing or was altered"):
        dataset.tokenizer_files(tmp_path / "fresh")
    assert not any(path.is_file() for path in (tmp_path / "fresh").rglob("*"))


def test_run_files_are_kept_under_plain_names(root: Path) -> None:
    dataset = TokenDataset.create_or_open(root, sample_lineage())
    dataset.write_run_file("2026-01-01_a", "config.yaml", "seed: ü\n")
    assert dataset.read_run_file("2026-01-01_a", "config.yaml") == "seed: ü\n"
    assert dataset.read_run_file("2026-01-01_a", "summary.json") is None
    for run_id, name in (("../x", "a"), ("a/b", "c"), ("", "a"), ("a", "..")):
        with pytest.raises(DatasetError, match="cannot be a file name"):
            dataset.write_run_file(run_id, name, "x")


def test_vacuum_and_readers_leave_the_side_folders_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "tokenizer" / "words.parquet")
    dataset = committed(root, *unit_records(work_unit("a"), 1), quarantined(work_unit("b")))
    dataset.store_tokenizer(tmp_path / "tokenizer")
    dataset.write_run_file("run", "config.yaml", "x")
    orphan = root / "part-orphan.parquet"
    pq.write_table(pa.table({"x": [1]}), orphan)
    table = DeltaTable(str(root))
    table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
    assert not orphan.exists()
    assert pa.dataset.dataset(str(root)).count_rows() == 1
    reopened = TokenDataset.open(root)
    assert reopened.num_clips() == 1
    assert reopened.quarantine().num_rows == 1
    assert reopened.tokenizer_files(tmp_path / "cache").is_dir()
    assert reopened.read_run_file("run", "config.yaml") == "x"


def test_a_table_that_hides_rows_outside_its_files_is_refused(root: Path) -> None:
    committed(root, *unit_records(work_unit("a"), 1))
    from deltalake import TableFeatures

    DeltaTable(str(root)).alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )
    with pytest.raises(DatasetError, match="deletionVectors"):
        TokenDataset.open(root)


def test_tokens_take_close_to_their_entropy_on_disk(root: Path) -> None:
    words = 10_481
    lineage = sample_lineage(
        num_spatial_tokens=256, num_temporal_tokens=1024,
        num_spatial_words=words, num_temporal_words=words,
    )  # fmt: skip
    random = np.random.default_rng(0)
    unit = work_unit("a")
    sample = tokenized_clip(unit, 0)
    clips = tuple(
        TokenizedClip(
            unit,
            ClipWindow(index, tuple(range(5)), 0.0, 1.0),
            sample.source,
            random.integers(0, words, 256).astype(np.int16),
            random.integers(0, words, 1024).astype(np.int16),
        )
        for index in range(2000)
    )
    dataset = TokenDataset.create_or_open(root, lineage)
    file = dataset.clips.write(token_rows([CompletedUnit(unit, clips, None)], lineage, "run"))
    bytes_per_clip = file.size_bytes / len(clips)
    assert bytes_per_clip < 1.06 * 1280 * math.log2(words) / 8 < 0.9 * 2560
    metadata = pq.ParquetFile(root / file.path).metadata.row_group(0)
    encodings = {metadata.column(i).path_in_schema: metadata.column(i).encodings for i in range(20)}
    assert "BYTE_STREAM_SPLIT" in encodings["temporal_tokens.list.element"]


def test_storage_settings_become_delta_options_without_secrets() -> None:
    config = StorageConfig(
        endpoint_url="http://127.0.0.1:9000", region="eu-central-1", anonymous=True,
        options={"default_block_size": 1},
    )  # fmt: skip
    assert delta_storage_options(config) == {
        "aws_conditional_put": "etag",
        "aws_endpoint_url": "http://127.0.0.1:9000",
        "aws_virtual_hosted_style_request": "false",
        "aws_allow_http": "true",
        "aws_region": "eu-central-1",
        "aws_skip_signature": "true",
    }
    assert delta_storage_options(None) == {"aws_conditional_put": "etag"}


def test_a_path_that_some_readers_cannot_open_is_worth_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, warnings in (("plain", 0), ("with space", 1), ("größe", 1)):
        caplog.clear()
        assert TokenDataset.create_or_open(tmp_path / name, sample_lineage()).num_clips() == 0
        assert len(caplog.records) == warnings


def test_the_schema_is_what_the_table_says(root: Path) -> None:
    dataset = TokenDataset.create_or_open(root, sample_lineage())
    assert dataset.clips.schema.equals(TOKEN_SCHEMA)
    assert dataset.num_clips() == 0
    assert dataset.rows().read_all().num_rows == 0
    with pytest.raises(DatasetError, match="no_such_column"):
        dataset.rows(["no_such_column"])
    assert dataset.finished_units().to_table().num_rows == 0
    assert listed_video("a").video_id == work_unit("a").video_id
    with pytest.raises(DeltaError):
        DeltaTable.create(str(root), TOKEN_SCHEMA)
