"""Samples on their way from row groups to batches: tokens as arrays, other columns as Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int, Int16
from torch import Tensor

from pipeline.dataset import Lineage
from pipeline.errors import DatasetError
from pipeline.reading.positions import Positions

TOKEN_COLUMNS = ("spatial_tokens", "temporal_tokens")
"""The columns with the ids."""
_NUMPY_TYPES = {torch.int16: np.int16, torch.int32: np.int32, torch.int64: np.int64}


@dataclass(frozen=True, eq=False)
class Samples:
    """Some clips of a dataset.

    Attributes:
        spatial: Ids into the spatial codebook.
        temporal: Ids into the temporal codebook.
        columns: The other columns that were asked for.
    """

    spatial: Int16[np.ndarray, "n s"]
    temporal: Int16[np.ndarray, "n m"]
    columns: pa.Table

    def __len__(self) -> int:
        return len(self.spatial)

    @classmethod
    def of_rows(cls, rows: pa.Table, lineage: Lineage, path: str) -> Samples:
        """The rows of a clip table, whose clips have the tokens that `lineage` promises.

        Raises:
            DatasetError: The rows of file `path` have other numbers of tokens, or an id that is no
                word of its codebook.
        """
        spatial = _matrix(rows["spatial_tokens"], lineage.num_spatial_tokens, path)
        temporal = _matrix(rows["temporal_tokens"], lineage.num_temporal_tokens, path)
        _check_words(spatial, lineage.num_spatial_words, path)
        _check_words(temporal, lineage.num_temporal_words, path)
        return cls(spatial, temporal, rows.drop_columns(list(TOKEN_COLUMNS)))

    @classmethod
    def joined(cls, parts: list[Samples]) -> Samples:
        """The samples of `parts` in their order; at least one part."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.spatial for part in parts]),
            np.concatenate([part.temporal for part in parts]),
            pa.concat_tables([part.columns for part in parts]),
        )

    def take(self, numbers: Int[np.ndarray, " k"]) -> Samples:
        """The samples with these numbers, in that order."""
        columns = self.columns
        if columns.num_columns:
            columns = columns.take(pa.array(numbers))
        return Samples(self.spatial[numbers], self.temporal[numbers], columns)

    def slice(self, first: int, last: int) -> Samples:
        """The samples from number `first` to `last` - 1, without a copy."""
        return Samples(
            self.spatial[first:last],
            self.temporal[first:last],
            self.columns.slice(first, last - first),
        )


@dataclass(frozen=True)
class TokenBatch:
    """What a training step takes.

    Attributes:
        spatial: Ids in [0, number of spatial words).
        temporal: Ids in [0, number of temporal words).
        columns: The other columns: a tensor where all values are numbers, else a list.
        positions: Where the samples stand in the epoch's order.
    """

    spatial: Int[Tensor, "b s"]
    temporal: Int[Tensor, "b m"]
    columns: dict[str, Any]
    positions: Positions

    def __len__(self) -> int:
        return len(self.spatial)

    @classmethod
    def of(cls, samples: Samples, positions: Positions, dtype: torch.dtype) -> TokenBatch:
        """A batch with ids of `dtype`."""
        return cls(
            _tensor(samples.spatial, dtype),
            _tensor(samples.temporal, dtype),
            {name: _plain(samples.columns[name]) for name in samples.columns.column_names},
            positions,
        )

    def listed(self, name: str) -> list[Any]:
        """The values of one of `columns` as a list, numbers or not."""
        values = self.columns[name]
        return values.tolist() if isinstance(values, Tensor) else list(values)

    def listed_columns(self) -> dict[str, list[Any]]:
        """All of `columns` as lists."""
        return {name: self.listed(name) for name in self.columns}

    def pin_memory(self) -> TokenBatch:
        """The batch in page-locked memory, for a `DataLoader` that pins."""
        return self._with(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device | str) -> TokenBatch:
        """The batch with its tensors on `device`; the copy does not wait."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def _with(self, change: Any) -> TokenBatch:
        columns = {
            name: change(value) if isinstance(value, Tensor) else value
            for name, value in self.columns.items()
        }
        return TokenBatch(change(self.spatial), change(self.temporal), columns, self.positions)


def in_batches(
    parts: Iterable[tuple[Positions, Samples]], batch_size: int
) -> Iterator[tuple[Positions, Samples]]:
    """Cuts a stream of samples into batches; only the last one may be smaller."""
    held: list[tuple[Positions, Samples]] = []
    num_held = 0
    for positions, samples in parts:
        first = 0
        while first < len(samples):
            last = min(len(samples), first + batch_size - num_held)
            held.append((positions.slice(first, last), samples.slice(first, last)))
            num_held += last - first
            first = last
            if num_held == batch_size:
                yield _joined(held)
                held, num_held = [], 0
    if held:
        yield _joined(held)


def _joined(parts: list[tuple[Positions, Samples]]) -> tuple[Positions, Samples]:
    if len(parts) == 1:
        return parts[0]
    where = Positions.of(pair for positions, _ in parts for pair in positions.intervals)
    return where, Samples.joined([samples for _, samples in parts])


def _matrix(column: pa.ChunkedArray, width: int, path: str) -> Int16[np.ndarray, "n w"]:
    lists = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values = lists.flatten()
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    if lists.null_count or len(values) != len(lists) * width or (lengths != width).any():
        raise DatasetError(
            f"{path}: a clip has not the {width} tokens that the dataset's lineage promises; "
            "jobs/verify_dataset.py tells which"
        )
    return values.to_numpy(zero_copy_only=True).reshape(len(lists), width)


def _check_words(ids: Int16[np.ndarray, "n w"], num_words: int, path: str) -> None:
    # Ids that no codebook has would only be noticed by a device's assertion, and not said there.
    if ids.size and (ids.min() < 0 or ids.max() >= num_words):
        raise DatasetError(
            f"{path}: ids are in [{ids.min()}, {ids.max()}], the codebook has {num_words} words; "
            "jobs/verify_dataset.py tells which clips, and tokenizing their videos again mends it"
        )


def _tensor(ids: Int16[np.ndarray, "n w"], dtype: torch.dtype) -> Int[Tensor, "n w"]:
    # A copy, as row groups may be mapped files; NumPy's is cheaper than torch's.
    return torch.from_numpy(ids.astype(_NUMPY_TYPES[dtype]))


def _plain(column: pa.ChunkedArray) -> Any:
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if is_number and not column.null_count:
        return torch.tensor(column.to_numpy())
    return column.to_pylist()
