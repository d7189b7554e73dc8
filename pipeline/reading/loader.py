"""Batches for training: sharded over ranks, resumable at the very next sample, elastic.

    loader = TokenLoader(reader, LoaderConfig(batch_size=32), rank=0, world_size=8)
    for epoch in range(3):
        for batch in loader:                  # the rest of the current epoch
            ...
            state = loader.state_dict()       # at any batch

Reading and decompressing happen in threads beside the training loop; there are no worker processes
to start, to feed or to lose. `TokenIterable` is for programs that want a `DataLoader` of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pydantic
import torch
import torch.utils.data

from pipeline.errors import DatasetError
from pipeline.reading.positions import Positions
from pipeline.reading.progress import Progress
from pipeline.reading.reader import OrderConfig, SampleSource
from pipeline.reading.samples import TokenBatch, in_batches
from sweettok.strict_config import StrictConfig


class LoaderConfig(StrictConfig):
    """How samples become batches.

    Attributes:
        batch_size: Samples of a batch, on each rank.
        drop_last: Give full batches only and equally many on every rank, as collective training
            steps need; at most world_size × batch_size samples of an epoch are left out. False
            gives every sample.
        ids: Integer type of the ids: int64 for embeddings and losses, int16 as they are stored.
        order: The order of an epoch.
    """

    batch_size: int = pydantic.Field(default=32, ge=1)
    drop_last: bool = False
    ids: Literal["int16", "int32", "int64"] = "int64"
    order: OrderConfig = OrderConfig()

    @property
    def dtype(self) -> torch.dtype:
        """The integer type."""
        return {"int16": torch.int16, "int32": torch.int32, "int64": torch.int64}[self.ids]


class TokenLoader:
    """One rank's batches, epoch after epoch.

    Iterating gives what is left of the current epoch; the next iteration begins the next one.

    Args:
        source: A `TokenReader` or a mixture.
        config: Batches and order; equal on all ranks.
        rank: Which share of the epoch, in [0, world_size).
        world_size: Number of shares.

    Raises:
        DatasetError: `drop_last` would leave out every sample.
    """

    def __init__(
        self,
        source: SampleSource,
        config: LoaderConfig | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
        self.source = source
        self.config = config or LoaderConfig()
        if self.config.drop_last and source.num_samples // world_size < self.config.batch_size:
            raise DatasetError(
                f"{source.num_samples} samples over {world_size} ranks give no full batch of "
                f"{self.config.batch_size} (drop_last); lower batch_size or give more samples"
            )
        order = self.config.order
        self._progress = Progress(
            fingerprint=source.fingerprint,
            seed=order.seed,
            shuffle=order.shuffle,
            window_samples=order.window_samples,
            epoch=0,
            left=Positions.first(source.num_samples),
            rank=rank,
            world_size=world_size,
        )

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to."""
        return self._progress.epoch

    def __len__(self) -> int:
        """Batches that are left of the epoch."""
        return -(-len(self._to_read()) // self.config.batch_size)

    def __iter__(self) -> Iterator[TokenBatch]:
        """The batches that are left of the epoch.

        Raises:
            DatasetError: A data file is missing or damaged.
        """
        for batch in batches(self.source, self._to_read(), self.config, self.epoch):
            # Before the batch is given: whoever saves a state while using it has consumed it.
            self._progress = self._progress.after(batch.positions)
            yield batch
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Goes to the beginning of `epoch`."""
        everything = Positions.first(self.source.num_samples)
        self._progress = replace(self._progress, epoch=epoch, left=everything, consumed=Positions())

    def state_dict(self) -> dict[str, Any]:
        """The place in the epoch, as plain values: all batches given so far count as consumed."""
        return self._progress.to_state()

    def load_state_dict(self, states: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Goes on where a state was saved; nothing that was consumed is read again.

        Args:
            states: This rank's own state, where the number of ranks is what it was; else a list of
                the states of all earlier ranks, and every new rank loads the same list.

        Raises:
            DatasetError: The states are of other data or another order, or some are missing.
        """
        self._progress = self._progress.resumed(states)

    def _to_read(self) -> Positions:
        unread = self._progress.unread()
        if not self.config.drop_last:
            return unread
        # Shares differ by one sample: full batches of the smallest one are there on all ranks.
        smallest = len(self._progress.left) // self._progress.world_size
        size = self.config.batch_size
        num_batches = max(0, smallest - len(self._progress.consumed)) // size
        return unread.slice(0, num_batches * size)


class TokenIterable(torch.utils.data.IterableDataset[TokenBatch]):
    """A rank's epoch for a `DataLoader` with worker processes and `batch_size=None`.

    Every worker takes a disjoint stretch of the rank's share, cut at batch borders. The batches
    carry their `positions`; a program that resumes collects those it has used and hands the rest
    to `positions`. Remote datasets need worker processes that are not forked
    (`multiprocessing_context="spawn"`): their store's client does not survive a fork.

    Args:
        source: A `TokenReader` or a mixture.
        config: Batches and order.
        positions: What to read; None: everything.
        epoch: Of which epoch.
    """

    def __init__(
        self,
        source: SampleSource,
        config: LoaderConfig | None = None,
        *,
        positions: Positions | None = None,
        epoch: int = 0,
    ) -> None:
        self.source = source
        self.config = config or LoaderConfig()
        self.positions = Positions.first(source.num_samples) if positions is None else positions
        self.epoch = epoch

    def __iter__(self) -> Iterator[TokenBatch]:
        worker = torch.utils.data.get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        size = self.config.batch_size
        num_batches = -(-len(self.positions) // size)
        first, last = (part * num_batches // count * size for part in (number, number + 1))
        yield from batches(self.source, self.positions.slice(first, last), self.config, self.epoch)


def batches(
    source: SampleSource, positions: Positions, config: LoaderConfig, epoch: int
) -> Iterator[TokenBatch]:
    """The samples at `positions` of an epoch, in batches; the last one may be smaller."""
    parts = source.samples(positions, config.order, epoch)
    for where, samples in in_batches(parts, config.batch_size):
        yield TokenBatch.of(samples, where, config.dtype)
