"""Parquet data files of a Delta table: written and read before any commit names them.

Tokens are close to random, so a dictionary only costs space; byte-stream split puts the nearly
constant high bytes of the ids together, and zstd then brings them close to the ids' entropy.
A data file is never changed or deleted here: one that no commit names is invisible to every
reader, and the table's own vacuum collects it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake.transaction import AddAction, RemoveAction

_ROW_GROUP_ROWS = 2048
_COMPRESSION_LEVEL = 1
_STATISTICS_COLUMNS = ("video_id", "video_uri", "clip_index")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a table.

    Attributes:
        path: Path relative to the table's root.
        size_bytes: Size of the file.
        num_rows: Rows in it.
        statistics: Delta statistics, as JSON.
    """

    path: str
    size_bytes: int
    num_rows: int
    statistics: str

    def add_action(self) -> AddAction:
        """The action that makes the file a part of the table."""
        now_ms = int(time.time() * 1000)
        return AddAction(self.path, self.size_bytes, {}, now_ms, True, self.statistics)


def remove_action(path: str, size_bytes: int) -> RemoveAction:
    """The action that takes a file's rows out of the table; older versions still read them."""
    return RemoveAction(
        path=path,
        data_change=True,
        deletion_timestamp=int(time.time() * 1000),
        partition_values={},
        size=size_bytes,
    )


def write_data_file(rows: pa.Table, filesystem: pa_fs.FileSystem) -> DataFile:
    """Writes `rows` as one new file in the root of `filesystem`; no commit names it yet."""
    path = f"part-{uuid.uuid4().hex}.zstd.parquet"
    token_leaves = [f"{name}.list.element" for name in _token_columns(rows.schema)]
    others = [leaf for leaf in _leaves(rows.schema) if leaf not in token_leaves]
    with filesystem.open_output_stream(path) as stream:
        pq.write_table(
            rows,
            stream,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            row_group_size=_ROW_GROUP_ROWS,
            use_dictionary=others,
            column_encoding=dict.fromkeys(token_leaves, "BYTE_STREAM_SPLIT"),
        )
        size_bytes = stream.tell()
    return DataFile(path, size_bytes, rows.num_rows, _statistics(rows))


def read_data_file(
    path: str, filesystem: pa_fs.FileSystem, columns: Sequence[str] | None = None
) -> pa.Table:
    """All rows of one file, or only some of its columns."""
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).read(columns=columns)


def without_videos(rows: pa.Table, video_ids: pa.Array) -> pa.Table:
    """`rows` except those of the videos in `video_ids`."""
    return rows.filter(pc.invert(pc.is_in(rows["video_id"], value_set=video_ids)))


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


def _statistics(rows: pa.Table) -> str:
    minima, maxima = {}, {}
    for name in _STATISTICS_COLUMNS:
        if name in rows.schema.names:
            ends = pc.min_max(rows[name]).as_py()
            minima[name], maxima[name] = ends["min"], ends["max"]
    values = {
        "numRecords": rows.num_rows,
        "minValues": minima,
        "maxValues": maxima,
        "nullCount": dict.fromkeys(minima, 0),
    }
    return json.dumps(values)
