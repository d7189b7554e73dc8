"""Many small data files become few large ones with the same rows, beside readers and writers.

The library's own compaction keeps neither the order of rows nor our encodings nor the hash in a
file's name, so files are rewritten here: the rows of some neighbouring files, sorted by video URI
and clip index, in one new file. Each new file is one compare-and-swap commit that says
`dataChange = false`. A commit of somebody else in between only makes this one try again, and if
one of the old files is gone by then, the new one is given up and nothing has happened.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.commits import on_newest_state
from pipeline.dataset.data_files import ROW_GROUP_ROWS
from pipeline.dataset.video_table import VideoTable

logger = logging.getLogger(__name__)

_ORDER = ("video_uri", "clip_index")
_NUM_READERS = 4


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Data files whose rows fit in one.

    Attributes:
        paths: The files, in the order of their first video's URI.
        size_bytes: Their sizes together.
    """

    paths: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CompactionSummary:
    """What a compaction has done, or would do.

    Attributes:
        num_files_before, num_bytes_before: The small files that were replaced.
        num_files_after, num_bytes_after: The files that hold their rows now.
    """

    num_files_before: int = 0
    num_bytes_before: int = 0
    num_files_after: int = 0
    num_bytes_after: int = 0

    def __add__(self, other: CompactionSummary) -> CompactionSummary:
        return CompactionSummary(
            self.num_files_before + other.num_files_before,
            self.num_bytes_before + other.num_bytes_before,
            self.num_files_after + other.num_files_after,
            self.num_bytes_after + other.num_bytes_after,
        )


def small_file_groups(table: VideoTable, target_bytes: int) -> list[FileGroup]:
    """Which files of the table's version belong together.

    A file of half the target or more is large enough. The others are taken in the order of their
    first video, as many as fit, so that neighbours in the corpus end up in the same file.
    """
    sizes = table.file_sizes()
    first_videos = table.first_videos()
    small = sorted(
        (path for path, size in sizes.items() if 2 * size < target_bytes),
        key=lambda path: (first_videos[path], path),
    )
    groups: list[FileGroup] = []
    waiting: list[str] = []
    for path in small:
        if sum(sizes[other] for other in waiting) + sizes[path] > target_bytes:
            groups.append(_group(waiting, sizes))
            waiting = []
        waiting.append(path)
    return [group for group in [*groups, _group(waiting, sizes)] if len(group.paths) > 1]


def compact(table: VideoTable, target_bytes: int, metadata: Mapping[str, str]) -> CompactionSummary:
    """Replaces small files by files of about `target_bytes`, one commit each.

    Holds the rows of one group in memory: two to three times `target_bytes`.

    Raises:
        DatasetError: The store refuses, a file was altered, or others win every attempt.
    """
    summary = CompactionSummary()
    for group in small_file_groups(table, target_bytes):
        summary += _compact_group(table, group, metadata)
    return summary


def _compact_group(
    table: VideoTable, group: FileGroup, metadata: Mapping[str, str]
) -> CompactionSummary:
    with ThreadPoolExecutor(_NUM_READERS) as readers:
        tables = [_with_schema(rows, table.schema) for rows in readers.map(table.read, group.paths)]
    replacement = table.write_tables(_sorted_row_groups(tables))
    num_rows = sum(rows.num_rows for rows in tables)
    assert replacement.num_rows == num_rows, f"{num_rows} rows became {replacement.num_rows}"
    if not on_newest_state(table, lambda: table.replace_files(group.paths, replacement, metadata)):
        logger.info("%d files were changed meanwhile, left as they are", len(group.paths))
        return CompactionSummary()
    logger.info(
        "version %d: %d files with %d rows became one of %d bytes",
        table.version, len(group.paths), num_rows, replacement.size_bytes,
    )  # fmt: skip
    return CompactionSummary(len(group.paths), group.size_bytes, 1, replacement.size_bytes)


def _group(paths: Sequence[str], sizes: Mapping[str, int]) -> FileGroup:
    return FileGroup(tuple(paths), sum(sizes[path] for path in paths))


def _with_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with the table's columns: files written before a column was added lack it."""
    columns = [
        rows[field.name].cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _sorted_row_groups(tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
    """All rows in order, a row group at a time; only the group that is handed out is copied."""
    order, table_of, first_rows = _order_of(tables)
    for start in range(0, len(order), ROW_GROUP_ROWS):
        rows = order[start : start + ROW_GROUP_ROWS]
        sources = table_of[start : start + ROW_GROUP_ROWS]
        # Most rows follow their predecessor in the same file: they are taken in runs.
        is_break = (np.diff(rows) != 1) | (np.diff(sources) != 0)
        runs = np.split(np.arange(len(rows)), np.flatnonzero(is_break) + 1)
        slices = [
            tables[sources[run[0]]].slice(rows[run[0]] - first_rows[sources[run[0]]], len(run))
            for run in runs
        ]
        yield pa.concat_tables(slices).combine_chunks()


def _order_of(tables: Sequence[pa.Table]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers over all tables in sorted order, the table of each, each table's first row."""
    names = [name for name in _ORDER if name in tables[0].schema.names]
    keys = pa.concat_tables(rows.select(names) for rows in tables)
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in names]).to_numpy()
    ends = np.cumsum([rows.num_rows for rows in tables])
    first_rows = ends - [rows.num_rows for rows in tables]
    order = order.astype(np.int64)
    return order, np.searchsorted(ends, order, side="right"), first_rows
