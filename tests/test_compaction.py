"""Compaction: the same rows in fewer files, in order, whoever writes or is killed meanwhile."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import CommitConfig, Committer, TokenDataset
from pipeline.dataset.commits import CommitConflictError
from pipeline.dataset.compaction import CompactionSummary, compact, small_file_groups
from pipeline.dataset.data_files import ROW_GROUP_ROWS, content_hash_in
from pipeline.errors import DatasetError
from pipeline.maintenance import MaintainConfig, maintain_dataset
from tests.dataset_places import Place, local_place, s3_place
from tests.token_samples import corpus, flat, sample_lineage, unit_records, work_unit

SMALL_COMMITS = CommitConfig(every_clips=2, target_file_bytes=1)
LARGE = 2**20
NUM_KILLED_RUNS = int(os.environ.get("SWEETTOK_KILLED_MAINTENANCE_RUNS", "3"))
METADATA = {"sweettok.run_id": "maintenance"}


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return s3_place(request.getfixturevalue("endpoint_url"))
    return local_place(tmp_path)


def test_compaction_changes_files_and_nothing_else(place: Place) -> None:
    place.commit(flat(corpus(16).values()), SMALL_COMMITS)
    dataset, before = place.open(), place.rows()
    version, num_files = dataset.version, len(dataset.clips.file_sizes())
    summary = compact(dataset.clips, LARGE, METADATA)
    assert (summary.num_files_before, summary.num_files_after) == (num_files, 1)
    assert place.rows() == before == place.rows(version)
    (path,) = dataset.clips.file_sizes()
    rows = dataset.clips.read(path)
    keys = list(zip(rows["video_uri"].to_pylist(), rows["clip_index"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    content = place.data_files()[path]
    assert content_hash_in(path) == hashlib.sha256(content).hexdigest()[:32]
    assert summary.num_bytes_after == len(content)
    log = place.files()[f"_delta_log/{dataset.version:020}.json"].decode().splitlines()
    actions = [action for line in log for action in json.loads(line).items()]
    changes = [action["dataChange"] for kind, action in actions if kind in ("add", "remove")]
    assert changes == [False] * (num_files + 1)
    assert place.open().finished_units().to_table().num_rows == 16
    assert compact(dataset.clips, LARGE, METADATA) == CompactionSummary()


def test_compacted_files_keep_encodings_row_groups_and_statistics(tmp_path: Path) -> None:
    place = local_place(tmp_path)
    for start in (0, 1):
        units = [work_unit(f"{index:03}") for index in range(start, 60, 2)]
        place.commit(flat(unit_records(unit, 50) for unit in units))
    dataset = place.open()
    compact(dataset.clips, LARGE, METADATA)
    ((path, size_bytes),) = dataset.clips.file_sizes().items()
    metadata = pq.ParquetFile(Path(place.uri, path)).metadata
    assert [metadata.row_group(i).num_rows for i in range(2)] == [ROW_GROUP_ROWS, 952]
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    tokens = [column for column in columns if "tokens" in column.path_in_schema]
    assert all("BYTE_STREAM_SPLIT" in column.encodings for column in tokens)
    assert {column.compression for column in columns} == {"ZSTD"}
    action = pa.table(dataset.clips._table.get_add_actions(flatten=True)).to_pylist()[0]
    assert (action["num_records"], action["size_bytes"]) == (3000, size_bytes)
    assert (action["min.video_uri"], action["max.video_uri"]) == (
        "file:///videos/000",
        "file:///videos/059",
    )


def test_files_from_before_a_column_was_added_are_compacted_with_it(tmp_path: Path) -> None:
    place = local_place(tmp_path)
    place.commit(unit_records(work_unit("b"), 1))
    place.commit(unit_records(work_unit("a", caption="x"), 1))
    dataset = place.open()
    compact(dataset.clips, LARGE, METADATA)
    assert len(dataset.clips.file_sizes()) == 1
    rows = dataset.rows(["video_uri", "caption"]).read_all().to_pydict()
    assert rows == {"video_uri": ["file:///videos/a", "file:///videos/b"], "caption": ["x", None]}


def test_neighbours_go_together_and_large_files_stay(tmp_path: Path) -> None:
    place = local_place(tmp_path)
    for name in ("c", "a", "d", "b"):
        place.commit(unit_records(work_unit(name), 2))
    table = place.open().clips
    sizes, first = table.file_sizes(), table.first_videos()
    groups = small_file_groups(table, sum(sizes.values()) // 4 * 2 + 200)
    names = [[first[path][-1] for path in group.paths] for group in groups]
    assert names == [["a", "b"], ["c", "d"]]
    assert [group.size_bytes for group in groups] == [
        sum(sizes[path] for path in group.paths) for group in groups
    ]
    assert small_file_groups(table, 2 * min(sizes.values())) == []


def test_files_that_somebody_else_has_replaced_are_left_alone(tmp_path: Path) -> None:
    place = local_place(tmp_path)
    for name in ("a", "b", "c"):
        place.commit(unit_records(work_unit(name), 2))
    table = place.open().clips
    (group,) = small_file_groups(table, LARGE)
    merged = table.write(pa.concat_tables(table.read(path) for path in group.paths))
    place.commit(unit_records(work_unit("a", "2"), 1))
    with pytest.raises(CommitConflictError):
        table.replace_files(group.paths, merged, METADATA)
    table.refresh()
    version = table.version
    assert not table.replace_files(group.paths, merged, METADATA)
    assert table.version == version
    assert len(place.rows()) == 5


def test_a_damaged_page_is_refused_instead_of_copied(tmp_path: Path) -> None:
    place = local_place(tmp_path)
    for names in ("ac", "b"):
        place.commit(flat(unit_records(work_unit(name), 40) for name in names))
    table = place.open().clips
    first = table.first_videos()
    path = Path(place.uri, min(first, key=first.__getitem__))
    metadata = pq.ParquetFile(path).metadata.row_group(0)
    column = next(
        metadata.column(i)
        for i in range(metadata.num_columns)
        if metadata.column(i).path_in_schema.startswith("spatial_tokens")
    )
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 9] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="CRC"):
        compact(table, LARGE, METADATA)
    with pytest.raises(DatasetError, match="CRC"):
        place.open().take_down(["file:///videos/a"], run_id="run", reason="test")
    # Nothing needs to be read of a file that leaves as a whole.
    assert place.open().take_down(["file:///videos/c"], run_id="run", reason="test").num_videos == 2
    assert {row["video_uri"] for row in place.rows()} == {"file:///videos/b"}


# --- beside others ----------------------------------------------------------------------------


def write_slowly(place: Place, num_videos: int) -> None:
    """A writer process: one small commit after the other."""
    dataset = TokenDataset.create_or_open(place.uri, sample_lineage(), storage=place.storage)
    committer = Committer(dataset, "writer", CommitConfig(every_clips=1, target_file_bytes=1))
    units = list(corpus(num_videos).values())
    random.Random(0).shuffle(units)
    for record in flat(units):
        committer.add(record)
    committer.close()


def maintain_for_ever(uri: str) -> None:
    """A maintenance process that somebody will kill: it keeps nothing but the newest version."""
    values = {"dataset": {"uri": uri}, "clean_up": {"retention_h": 0}}
    config = MaintainConfig.from_mapping(values, origin="test")
    while True:
        maintain_dataset(config)


def test_compaction_beside_a_committer_loses_and_doubles_nothing(
    place: Place, tmp_path: Path
) -> None:
    num_videos = 12 if place.storage.endpoint_url else 40
    place.commit([])
    writer = multiprocessing.get_context("spawn").Process(
        target=write_slowly, args=(place, num_videos)
    )
    writer.start()
    dataset, summary = place.open(), CompactionSummary()
    while writer.is_alive():
        dataset.refresh()
        summary += compact(dataset.clips, LARGE, METADATA)
    writer.join()
    assert writer.exitcode == 0
    assert summary.num_files_after > 1
    expected = Place(str(tmp_path / "undisturbed"))
    expected.commit(flat(corpus(num_videos).values()))
    assert place.rows() == expected.rows()
    found, wanted = (
        each.open().finished_units().to_table().sort_by("video_id") for each in (place, expected)
    )
    assert found.equals(wanted)


def test_killed_maintenance_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    place = local_place(tmp_path)
    context = multiprocessing.get_context("spawn")
    num_versions = 0
    for attempt in range(NUM_KILLED_RUNS):
        units = corpus(12, version=str(attempt)).values()
        place.commit(flat(units), SMALL_COMMITS)
        before, version = place.rows(), place.open().version
        compactor = context.Process(target=maintain_for_ever, args=(place.uri,))
        compactor.start()
        assert compactor.pid is not None
        deadline_s = time.monotonic() + 60
        while place.open().version == version:
            assert time.monotonic() < deadline_s, "nothing is compacted"
        time.sleep(random.Random(attempt).uniform(0, 0.3))
        os.kill(compactor.pid, signal.SIGKILL)
        compactor.join()
        assert place.rows() == before
        num_versions += place.open().version - version
    assert num_versions >= NUM_KILLED_RUNS
    clip_ids = place.open().rows(["clip_id"]).read_all()["clip_id"]
    assert pc.count_distinct(clip_ids).as_py() == len(clip_ids)
