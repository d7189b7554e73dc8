"""The same rows through every reader that people use: none of them knows this project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipeline.dataset import CommitConfig, Committer, TokenDataset
from tests.token_samples import quarantined, sample_lineage, unit_records, work_unit


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several commits and files, a replaced video, attributes that came late, side folders."""
    root = tmp_path_factory.mktemp("read_back") / "tokens"
    runs = [
        [*unit_records(work_unit("a"), 3), *unit_records(work_unit("b"), 2)],
        [*unit_records(work_unit("a", "2"), 2), quarantined(work_unit("c"))],
        unit_records(work_unit("d", caption="ein Hund läuft", label="1"), 4),
    ]
    for number, records in enumerate(runs):
        dataset = TokenDataset.create_or_open(root, sample_lineage())
        committer = Committer(dataset, f"run-{number}", CommitConfig(target_file_bytes=64))
        for record in records:
            committer.add(record)
        committer.close()
    tokenizer = root.parent / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "model.safetensors").write_bytes(b"weights")
    dataset.store_tokenizer(tokenizer)
    dataset.write_run_file("run-2", "config.yaml", "seed: 1\n")
    return root


@pytest.fixture(scope="module")
def expected(root: Path) -> list[dict[str, Any]]:
    rows = in_order(TokenDataset.open(root).rows().read_all().to_pylist())
    assert [(row["video_uri"][-1], row["clip_index"], row["caption"]) for row in rows] == [
        ("a", 0, None), ("a", 1, None), ("b", 0, None), ("b", 1, None),
        *(("d", index, "ein Hund läuft") for index in range(4)),
    ]  # fmt: skip
    return rows


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["video_uri"], row["clip_index"]))


def test_deltalake_and_pyarrow(root: Path, expected: list[dict[str, Any]]) -> None:
    assert in_order(DeltaTable(str(root)).to_pyarrow_table().to_pylist()) == expected
    scanned = pa.table(DeltaTable(str(root)).scan())
    assert in_order(scanned.to_pylist()) == expected


def test_polars(root: Path, expected: list[dict[str, Any]]) -> None:
    frame = pl.read_delta(str(root))
    assert frame.schema["spatial_tokens"] == pl.List(pl.Int16)
    assert in_order(frame.to_dicts()) == expected
    lazy = pl.scan_delta(str(root)).filter(pl.col("video_uri") == "file:///videos/d").collect()
    assert in_order(lazy.to_dicts()) == expected[4:]


def test_duckdb(root: Path, expected: list[dict[str, Any]]) -> None:
    clips = TokenDataset.open(root).arrow_dataset()  # noqa: F841  DuckDB finds it by its name
    rows = duckdb.sql("SELECT * FROM clips").to_arrow_table()
    assert rows.schema.field("temporal_tokens").type.value_type == pa.int16()
    assert in_order(rows.to_pylist()) == expected
    files = DeltaTable(str(root)).file_uris()
    query = duckdb.sql(f"SELECT * FROM read_parquet({files}, union_by_name = true)")
    assert in_order(query.to_arrow_table().to_pylist()) == expected


@pytest.mark.ray
def test_ray_data(root: Path, expected: list[dict[str, Any]], ray_cluster: object) -> None:
    import ray.data

    dataset = ray.data.read_delta(str(root))
    rows = dataset.take_all()
    listed = [{name: _plain(value) for name, value in row.items()} for row in rows]
    assert in_order(listed) == expected
    types = dict(zip(dataset.schema().names, dataset.schema().types, strict=True))
    assert types["spatial_tokens"].value_type == pa.int16()


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
