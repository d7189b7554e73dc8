"""Rows as the Parquet files that `datasets.load_dataset(directory)` and the Hub expect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_ROW_GROUP_ROWS = 1000


def write_parquet_files(
    tables: Iterable[pa.Table], directory: str | Path, *, rows_per_file: int
) -> int:
    """Writes `data/train-00000-of-000NN.parquet` and so on; returns the number of rows.

    Args:
        tables: Rows, all with one schema, in any portions.
        directory: Where `data/` is made; not yet visible to readers.
        rows_per_file: Rows of every file but the last.
    """
    folder = Path(directory) / "data"
    folder.mkdir(parents=True)
    num_rows = 0
    paths: list[Path] = []
    for part in _portions(tables, rows_per_file):
        paths.append(folder / f"part-{len(paths):05}.parquet")
        pq.write_table(part, paths[-1], compression="zstd", row_group_size=_ROW_GROUP_ROWS)
        num_rows += part.num_rows
    for number, path in enumerate(paths):
        path.rename(folder / f"train-{number:05}-of-{len(paths):05}.parquet")
    return num_rows


def _portions(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    num_held = 0
    for table in tables:
        held.append(table)
        num_held += table.num_rows
        while num_held >= size:
            joined = pa.concat_tables(held)
            yield joined.slice(0, size)
            held = [joined.slice(size)]
            num_held -= size
    if num_held:
        yield pa.concat_tables(held)
