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


def test_hugging_face_datasets(
    root: Path, expected: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    version = DeltaTable(str(root))
    features = datasets.Features.from_arrow_schema(pa.schema(version.schema().to_arrow()))
    found = datasets.load_dataset(
        "parquet",
        data_files=version.file_uris(),
        features=features,
        split="train",
        cache_dir=str(tmp_path),
    )
    assert in_order(list(found)) == expected
    streamed = datasets.load_dataset(
        "parquet",
        data_files=version.file_uris(),
        features=features,
        split="train",
        streaming=True,
        cache_dir=str(tmp_path),
    )
    assert in_order(list(streamed)) == expected


def test_ray_data_reads_a_pinned_version(
    root: Path, expected: list[dict[str, Any]], ray_cluster: object
) -> None:
    from pipeline.reading.ray_data import read_tokens

    version = TokenDataset.open(root).version
    names = ["video_uri", "clip_index", "spatial_tokens", "temporal_tokens", "caption"]
    rows = read_tokens(root, version, columns=names, filters=[("clip_index", "<", 2)])
    listed = [{name: _plain(value) for name, value in row.items()} for row in rows.take_all()]
    wanted = [{name: row[name] for name in names} for row in expected if row["clip_index"] < 2]
    assert [{name: row[name] for name in names} for row in in_order(listed)] == wanted


def test_ray_train_gets_shards_of_a_pinned_version(root: Path, ray_cluster: object) -> None:
    from pipeline.reading.ray_data import read_tokens

    shards = read_tokens(root, columns=["clip_id"]).streaming_split(2, equal=False)
    import ray

    @ray.remote(num_cpus=0.5)
    def consume(shard: Any) -> list[str]:
        batches = shard.iter_batches(batch_size=2, batch_format="pyarrow")
        return [clip for batch in batches for clip in batch["clip_id"].to_pylist()]

    found = [
        clip for clips in ray.get([consume.remote(shard) for shard in shards]) for clip in clips
    ]
    wanted = TokenDataset.open(root).rows(["clip_id"]).read_all()["clip_id"].to_pylist()
    assert sorted(found) == sorted(wanted)
