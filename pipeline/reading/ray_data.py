"""The clips of one pinned version as a Ray dataset, for `ray.data` and Ray Train.

    rows = read_tokens("s3://corpus/tokens", columns=["caption"])
    trainer = TorchTrainer(train_loop, datasets={"train": rows}, ...)
    # in the loop: ray.train.get_dataset_shard("train").iter_torch_batches(batch_size=32)

Ray Data has neither an order that can be repeated over other numbers of workers nor a way to go on
in the middle of an epoch; a `TokenLoader` has both. This is for everything else: maps, joins,
statistics, and trainers that want a Ray dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import ray.data

from pipeline.reading.reader import TokenReader
from pipeline.reading.row_groups import Filters
from pipeline.reading.samples import TOKEN_COLUMNS
from pipeline.storage import StorageConfig

ROW_GROUPS_PER_TASK = 8


def read_tokens(
    uri: str | Path,
    version: int | None = None,
    *,
    columns: Sequence[str] = (),
    filters: Filters | None = None,
    storage: StorageConfig | None = None,
) -> ray.data.Dataset:
    """A lazy Ray dataset with a row per clip; the token columns keep their Arrow type.

    Args:
        uri: Root of the dataset.
        version: The version to read; the latest if None, and later commits change nothing.
        columns: Columns to read beside the tokens.
        filters: Which clips to read; see `TokenReader.open`.
        storage: How to reach the dataset.

    Raises:
        DatasetError: As `TokenReader.open`.
    """
    reader = TokenReader.open(uri, version, columns=columns, filters=filters, storage=storage)
    names = [*TOKEN_COLUMNS, *reader.columns]
    source = reader.source

    def read(tasks: pa.Table) -> pa.Table:
        groups = [reader.groups[number] for number in tasks["group"].to_pylist()]
        return pa.concat_tables([source.read(group, names) for group in groups])

    numbers = [number for number, group in enumerate(reader.groups) if group.num_samples]
    return ray.data.from_arrow(_tasks(numbers)).map_batches(
        read, batch_format="pyarrow", batch_size=None
    )


def _tasks(numbers: Sequence[int]) -> list[pa.Table]:
    """Small tables that name row groups: each becomes one reading task."""
    return [
        pa.table({"group": numbers[first : first + ROW_GROUPS_PER_TASK]})
        for first in range(0, len(numbers), ROW_GROUPS_PER_TASK)
    ]
