"""Reads the clips of one pinned version in an order that anybody can compute.

reader = TokenReader.open("s3://corpus/tokens", columns=["caption"])
loader = TokenLoader(reader, LoaderConfig(batch_size=32), rank=rank, world_size=8)
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pydantic

from pipeline.dataset import Lineage, TokenDataset
from pipeline.errors import DatasetError
from pipeline.reading.order import EpochOrder, Stretch
from pipeline.reading.positions import Positions
from pipeline.reading.row_group_cache import RowGroupCache
from pipeline.reading.row_groups import Filters, RowGroup, RowGroupSource
from pipeline.reading.samples import TOKEN_COLUMNS, Samples
from pipeline.records import stable_id
from pipeline.storage import StorageConfig
from sweettok.strict_config import StrictConfig

_GivenT = TypeVar("_GivenT")
_ResultT = TypeVar("_ResultT")


class OrderConfig(StrictConfig):
    """In which order an epoch is read.

    Attributes:
        seed: Seed of all epochs' orders.
        shuffle: False reads in the order of the data files.
        window_samples: Samples that are held and mixed at one time. Row groups come from all over
            the dataset in a random order; a window mixes those it holds.
        windows_ahead: Windows that are read while one is used up; each costs its memory.
        parallel_reads: Row groups of a window that are read at one time, which hides the answering
            time of a remote store.
    """

    seed: int = pydantic.Field(default=0, ge=0, lt=2**64)
    shuffle: bool = True
    window_samples: int = pydantic.Field(default=32_768, ge=1)
    windows_ahead: int = pydantic.Field(default=1, ge=0)
    parallel_reads: int = pydantic.Field(default=4, ge=1)


class SampleSource(Protocol):
    """What a loader reads from: one dataset, or a mixture of several."""

    @property
    def num_samples(self) -> int:
        """Samples of an epoch."""

    @property
    def fingerprint(self) -> str:
        """Tells whether positions of two sources mean the same samples."""

    def samples(
        self, positions: Positions, order: OrderConfig, epoch: int
    ) -> Iterator[tuple[Positions, Samples]]:
        """The samples at `positions` of an epoch, in their order, in stretches of any length."""


@dataclass(frozen=True)
class TokenReader:
    """The clips of one version of a dataset, or those that filters leave.

    Use `open`. Small and picklable; files are opened where samples are read.

    Attributes:
        uri: Root of the dataset.
        version: The version that is read; later commits change nothing.
        lineage: What made the tokens.
        columns: Columns that come with the tokens.
        source: Reads row groups.
        groups: All row groups of the version, sorted by data file.
    """

    uri: str
    version: int
    lineage: Lineage
    columns: tuple[str, ...]
    source: RowGroupSource
    groups: tuple[RowGroup, ...]

    @classmethod
    def open(
        cls,
        uri: str | Path,
        version: int | None = None,
        *,
        columns: Sequence[str] = (),
        filters: Filters | None = None,
        storage: StorageConfig | None = None,
        cache: RowGroupCache | None = None,
    ) -> TokenReader:
        """Opens the latest version of a dataset, or an older one.

        Args:
            uri: Root of the dataset.
            version: The version to read.
            columns: Columns to read beside the tokens; only these are fetched.
            filters: Which clips to read; everything that statistics exclude is not fetched.
            storage: How to reach the dataset.
            cache: Keeps decoded row groups on a local disk.

        Raises:
            DatasetError: There is no such dataset, version or column; a data file is missing; no
                clip is left.
        """
        storage = storage or StorageConfig()
        dataset = TokenDataset.open(uri, version, storage=storage)
        wanted = tuple(dict.fromkeys(name for name in columns if name not in TOKEN_COLUMNS))
        clips = dataset.clips
        source = RowGroupSource(dataset.uri, clips.options, clips.schema, storage, cache)
        _check_columns(source, wanted)
        groups = source.find(sorted(dataset.clips.file_sizes()), filters)
        if not sum(group.num_samples for group in groups):
            why = "holds no clip" if filters is None else f"has no clip that passes {filters!r}"
            raise DatasetError(f"{dataset.uri}: version {dataset.version} {why}")
        return cls(dataset.uri, dataset.version, dataset.lineage, wanted, source, tuple(groups))

    @cached_property
    def num_samples(self) -> int:
        """Clips of an epoch."""
        return sum(group.num_samples for group in self.groups)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the version's files and with what filters leave of them."""
        return stable_id(
            "reader",
            *(part for group in self.groups for part in (group.path, group.number)),
            *("all" if group.chosen is None else _hash(group.chosen) for group in self.groups),
        )

    def class_names(self, column: str | None) -> tuple[str, ...]:
        """The different values of a column as texts, sorted: the same classes get the same ids.

        None has no classes. Only that column is read, a row group at a time.

        Raises:
            DatasetError: There is no such column; a data file is missing or damaged.
        """
        if column is None:
            return ()
        _check_columns(self.source, [column])
        found: set[str] = set()
        for group in self.groups:
            values = self.source.read(group, [column])[column].unique().to_pylist()
            found |= {str(value) for value in values if value is not None}
        return tuple(sorted(found))

    def samples(
        self, positions: Positions, order: OrderConfig, epoch: int
    ) -> Iterator[tuple[Positions, Samples]]:
        """The clips at `positions` of an epoch, in their order.

        Raises:
            DatasetError: A data file is missing or damaged.
        """
        epoch_order = self._order(order, epoch)
        stretches = (
            stretch
            for start, stop in positions.intervals
            for stretch in epoch_order.stretches(start, stop)
        )
        windows = (
            (window, list(group)) for window, group in groupby(stretches, lambda part: part.window)
        )

        with ThreadPoolExecutor(order.parallel_reads) as readers:

            def load(given: tuple[int, list[Stretch]]) -> list[tuple[Positions, Samples]]:
                window, parts = given
                groups = epoch_order.groups_of(window)
                read = map if len(groups) == 1 else readers.map
                held = read(self._group, groups)
                return _placed(epoch_order, Samples.joined(list(held)), parts)

            for parts in read_ahead(windows, load, order.windows_ahead):
                yield from parts

    def _order(self, order: OrderConfig, epoch: int) -> EpochOrder:
        sizes = np.array([group.num_samples for group in self.groups], np.int64)
        return EpochOrder(sizes, order.seed, epoch, order.shuffle, order.window_samples)

    def _group(self, number: int) -> Samples:
        group = self.groups[number]
        rows = self.source.read(group, [*TOKEN_COLUMNS, *self.columns])
        return Samples.of_rows(rows, self.lineage, f"{self.uri}/{group.path}")


def _placed(
    order: EpochOrder, held: Samples, stretches: list[Stretch]
) -> list[tuple[Positions, Samples]]:
    """The samples of some stretches of one window, which `held` has in the files' order."""
    rows = order.rows_of(stretches[0].window) if order.shuffle else None
    found = []
    for part in stretches:
        first, last = part.first, part.first + len(part)
        samples = held.slice(first, last) if rows is None else held.take(rows[first:last])
        found.append((Positions.of([(part.start, part.stop)]), samples))
    return found


def _check_columns(source: RowGroupSource, names: Sequence[str]) -> None:
    known = source.schema.names
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DatasetError(f"{source.uri}: has no column {unknown[0]!r}, but {', '.join(known)}")


def _hash(numbers: np.ndarray) -> str:
    return hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()


def read_ahead(
    given: Iterable[_GivenT], load: Callable[[_GivenT], _ResultT], ahead: int
) -> Iterator[_ResultT]:
    """`load` of each of `given`, in order, while the next `ahead` of them are being loaded."""
    if ahead == 0:
        yield from map(load, given)
        return
    waiting = iter(given)
    with ThreadPoolExecutor(ahead) as threads:
        started = deque(threads.submit(load, item) for item in islice(waiting, ahead + 1))
        try:
            while started:
                yield started.popleft().result()
                started.extend(threads.submit(load, item) for item in islice(waiting, 1))
        finally:
            for future in started:
                future.cancel()
