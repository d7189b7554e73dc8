"""Parquet data files of a Delta table: written and read before any commit names them.

Tokens are close to random, so a dictionary only costs space; byte-stream split puts the nearly
constant high bytes of the ids together, and zstd then brings them close to the ids' entropy.

A file's name holds a hash of its content and every page carries a checksum: reading refuses a page
that was altered, so damage is never copied into a new file. A data file is never changed: one that
no commit names is invisible to every reader, and maintenance collects it when it is old enough.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake.transaction import AddAction, RemoveAction

ROW_GROUP_ROWS = 2048
MAX_WAIT_S = 3600.0
"""A file enters a commit at most so many seconds after it was written."""

_COMPRESSION_LEVEL = 1
STATISTICS_COLUMNS = ("video_id", "video_uri", "clip_index")
_IN_MEMORY_BYTES = 128 * 2**20
_BLOCK_BYTES = 2**20
_NAME = re.compile(r"part-[0-9a-f]{16}-([0-9a-f]{32})\.zstd\.parquet")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a table.

    Attributes:
        path: Path relative to the table's root.
        size_bytes: Size of the file.
        num_rows: Rows in it.
        statistics: Delta statistics, as JSON.
        written_s: When it was written, on this process's monotonic clock.
    """

    path: str
    size_bytes: int
    num_rows: int
    statistics: str
    written_s: float = field(default_factory=time.monotonic, compare=False)

    @property
    def is_fresh(self) -> bool:
        """Whether it may still enter a commit: no clean-up can take it for abandoned."""
        return time.monotonic() - self.written_s < MAX_WAIT_S

    def add_action(self, *, data_change: bool = True) -> AddAction:
        """The action that makes the file a part of the table."""
        now_ms = int(time.time() * 1000)
        return AddAction(self.path, self.size_bytes, {}, now_ms, data_change, self.statistics)


def remove_action(path: str, size_bytes: int, *, data_change: bool = True) -> RemoveAction:
    """The action that takes a file's rows out of the table; older versions still read them."""
    return RemoveAction(
        path=path,
        data_change=data_change,
        deletion_timestamp=int(time.time() * 1000),
        partition_values={},
        size=size_bytes,
    )


def content_hash_in(path: str) -> str | None:
    """The first 32 hexadecimal digits of a file's SHA-256, from its name; None if it has none."""
    match = _NAME.fullmatch(path)
    return match and match.group(1)


def write_data_file(rows: pa.Table, filesystem: pa_fs.FileSystem) -> DataFile:
    """Writes `rows` as one new file in the root of `filesystem`; no commit names it yet."""
    return write_tables([rows], rows.schema, filesystem)


def write_tables(
    tables: Iterable[pa.Table], schema: pa.Schema, filesystem: pa_fs.FileSystem
) -> DataFile:
    """Writes the rows of `tables`, one after the other, as one new file.

    The file is made here, in memory or in a temporary file once it is large, because its name is
    known only when it is complete. Of the rows no more than a row group is held.
    """
    statistics = _Statistics()
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as content:
        for table in _write_content(tables, schema, content):
            statistics.add(table)
        size_bytes = content.tell()
        digest = hashlib.sha256()
        for block in _blocks(content):
            digest.update(block)
        path = f"part-{uuid.uuid4().hex[:16]}-{digest.hexdigest()[:32]}.zstd.parquet"
        # Blocks smaller than the buffer: the Delta file system refuses larger single writes.
        with filesystem.open_output_stream(path, buffer_size=4 * _BLOCK_BYTES) as stream:
            for block in _blocks(content):
                stream.write(block)
    return DataFile(path, size_bytes, statistics.num_rows, statistics.to_json())


def write_content(rows: pa.Table, content: IO[bytes]) -> None:
    """Writes the content of the data file that `rows` would make; nothing is stored."""
    for _ in _write_content([rows], rows.schema, content):
        pass


def read_data_file(
    path: str, filesystem: pa_fs.FileSystem, columns: Sequence[str] | None = None
) -> pa.Table:
    """All rows of one file, or only some of its columns.

    Raises:
        OSError: There is no such file, or a page was altered since it was written.
    """
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file, page_checksum_verification=True).read(columns=columns)


def read_distinct(path: str, filesystem: pa_fs.FileSystem, columns: Sequence[str]) -> pa.Table:
    """The rows of some string columns of one file, every one once.

    Of rows that are equal and follow each other, as the clips of a video do, only the first one is
    ever made a text: their number hardly matters.

    Raises:
        OSError: As `read_data_file`.
    """
    with filesystem.open_input_file(path) as file:
        parquet = pq.ParquetFile(
            file, read_dictionary=list(columns), page_checksum_verification=True
        )
        rows = parquet.read(columns=list(columns))
    schema = pa.schema([(name, pa.string()) for name in columns])
    parts = [_run_starts(batch).cast(schema) for batch in rows.to_batches()]
    firsts = pa.Table.from_batches(parts, schema)
    return firsts.group_by(list(columns)).aggregate([]).combine_chunks()


def read_schema(path: str, filesystem: pa_fs.FileSystem) -> pa.Schema:
    """The columns of one file."""
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).schema_arrow


def read_row_groups(path: str, filesystem: pa_fs.FileSystem) -> Iterator[pa.Table]:
    """The rows of one file, a row group at a time.

    Raises:
        OSError: There is no such file, or a page was altered since it was written.
    """
    with filesystem.open_input_file(path) as file:
        parquet = pq.ParquetFile(file, pre_buffer=True, page_checksum_verification=True)
        for index in range(parquet.num_row_groups):
            yield parquet.read_row_group(index)


def without_videos(rows: pa.Table, video_ids: pa.Array) -> pa.Table:
    """`rows` except those of the videos in `video_ids`."""
    return rows.filter(pc.invert(pc.is_in(rows["video_id"], value_set=video_ids)))


def _run_starts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of dictionary columns that differ from the one before; with nulls, all rows."""
    if any(column.null_count for column in batch.columns):
        return batch
    is_start = np.zeros(batch.num_rows, bool)
    is_start[:1] = True
    for column in batch.columns:
        codes = column.indices.to_numpy()
        is_start[1:] |= codes[1:] != codes[:-1]
    return batch.filter(pa.array(is_start))


def _write_content(
    tables: Iterable[pa.Table], schema: pa.Schema, content: IO[bytes]
) -> Iterator[pa.Table]:
    """Writes the rows and yields them, in the row groups' tables, once they are written."""
    with pq.ParquetWriter(content, schema, **_writer_options(schema)) as writer:
        for table in _regrouped(tables):
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            yield table


def _writer_options(schema: pa.Schema) -> dict[str, Any]:
    token_leaves = [f"{name}.list.element" for name in _token_columns(schema)]
    return {
        "compression": "zstd",
        "compression_level": _COMPRESSION_LEVEL,
        "use_dictionary": [leaf for leaf in _leaves(schema) if leaf not in token_leaves],
        "column_encoding": dict.fromkeys(token_leaves, "BYTE_STREAM_SPLIT"),
        "write_page_checksum": True,
    }


def _token_columns(schema: pa.Schema) -> list[str]:
    return [
        field.name
        for field in schema
        if pa.types.is_list(field.type) and field.type.value_type == pa.int16()
    ]


def _leaves(schema: pa.Schema) -> list[str]:
    return [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in schema
    ]


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of at least a row group, but for the last one."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(table.num_rows for table in waiting) >= ROW_GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _blocks(content: IO[bytes]) -> Iterator[bytes]:
    content.seek(0)
    while block := content.read(_BLOCK_BYTES):
        yield block


class _Statistics:
    """Row count and smallest and largest keys, as Delta readers use them to skip files."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._ends: dict[str, tuple[Any, Any]] = {}

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self.num_rows += rows.num_rows
        for name in STATISTICS_COLUMNS:
            if name in rows.schema.names:
                ends = pc.min_max(rows[name]).as_py()
                low, high = self._ends.get(name, (ends["min"], ends["max"]))
                self._ends[name] = (min(low, ends["min"]), max(high, ends["max"]))

    def to_json(self) -> str:
        return json.dumps(
            {
                "numRecords": self.num_rows,
                "minValues": {name: low for name, (low, _) in self._ends.items()},
                "maxValues": {name: high for name, (_, high) in self._ends.items()},
                "nullCount": dict.fromkeys(self._ends, 0),
            }
        )
