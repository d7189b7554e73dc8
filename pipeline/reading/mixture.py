"""Several token datasets as one, in chosen proportions, with the same exact order and resume.

Positions of a mixture are cut into blocks. Within every block each dataset has its share, to one
sample over the whole epoch, and the order of datasets is permuted; the samples of one dataset come
in the order of its own epochs, one after the other, so a small one may be read several times while
a large one is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from pipeline.errors import DatasetError
from pipeline.reading.order import permutation
from pipeline.reading.positions import Positions
from pipeline.reading.reader import OrderConfig, TokenReader
from pipeline.reading.samples import Samples, in_batches
from pipeline.records import stable_id

BLOCK_SAMPLES = 1024
_ROUNDING = 1e-6
"""A quotient that much below a whole number is that number: 49 × (1 / 49) is not 1 to a machine."""
_MIXTURE = 3  # what a permutation is for; see pipeline/reading/order.py
_VOCABULARY = (
    "weights_hash", "codebook_hash", "num_spatial_words", "num_temporal_words",
    "num_spatial_tokens", "num_temporal_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class Mixture:
    """Datasets and their shares of an epoch.

    Use `of`.

    Attributes:
        readers: The datasets by name; all made by the same tokenizer.
        weights: Their shares, adding up to 1, in the order of `readers`.
        num_samples: Samples of an epoch.
    """

    readers: dict[str, TokenReader]
    weights: tuple[float, ...]
    num_samples: int

    @classmethod
    def of(
        cls,
        readers: Mapping[str, TokenReader],
        weights: Mapping[str, float] | None = None,
        *,
        num_samples: int | None = None,
    ) -> Mixture:
        """Mixes datasets.

        Args:
            readers: The datasets by name.
            weights: Their shares, in any unit; None: as many samples as each has.
            num_samples: Samples of an epoch; None: until one dataset has been read once.

        Raises:
            DatasetError: The datasets have different vocabularies, or weights do not fit them.
        """
        _check_same_vocabulary(readers)
        if weights is None:
            weights = {name: reader.num_samples for name, reader in readers.items()}
        if weights.keys() != readers.keys() or min(weights.values(), default=0) <= 0:
            raise DatasetError(
                f"weights must be above 0, one for each of {', '.join(readers) or 'no dataset'}; "
                f"got {dict(weights)}"
            )
        total = sum(weights.values())
        shares = {name: weights[name] / total for name in readers}
        if num_samples is None:
            num_samples = min(
                int(reader.num_samples * total / weights[name] + _ROUNDING)
                for name, reader in readers.items()
            )
        if num_samples < 1:
            raise DatasetError(f"a mixture needs at least one sample, num_samples = {num_samples}")
        return cls(dict(readers), tuple(shares.values()), num_samples)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the datasets, their names' order and their shares."""
        parts = [reader.fingerprint for reader in self.readers.values()]
        return stable_id("mixture", BLOCK_SAMPLES, self.num_samples, *parts, *self.weights)

    def samples(
        self, positions: Positions, order: OrderConfig, epoch: int
    ) -> Iterator[tuple[Positions, Samples]]:
        """The samples at `positions` of an epoch, block by block.

        Raises:
            DatasetError: A data file is missing or damaged.
        """
        for start, stop in positions.intervals:
            streams = [
                self._stream(number, start, stop, order, epoch)
                for number in range(len(self.weights))
            ]
            while start < stop:
                block = start // BLOCK_SAMPLES
                end = min(stop, (block + 1) * BLOCK_SAMPLES)
                offset = block * BLOCK_SAMPLES
                chosen = self._chosen(block, order, epoch)[start - offset : end - offset]
                yield Positions.of([(start, end)]), _merged(chosen, streams)
                start = end

    def _stream(
        self, number: int, start: int, stop: int, order: OrderConfig, epoch: int
    ) -> _Stream:
        """What one dataset gives to the positions [start, stop) of the mixture."""
        reader = list(self.readers.values())[number]
        per_epoch = int(self._before(self.num_samples, number, order, epoch))
        first, last = (
            epoch * per_epoch + int(self._before(position, number, order, epoch))
            for position in (start, stop)
        )
        return _Stream(_endless(reader, first, last, order))

    def _before(self, position: int, number: int, order: OrderConfig, epoch: int) -> int:
        """How many of the positions below `position` are of dataset `number`."""
        block, rest = divmod(position, BLOCK_SAMPLES)
        before = int(self._quota(block)[number])
        if rest:
            chosen = self._chosen(block, order, epoch)[:rest]
            before += int(np.count_nonzero(chosen == number))
        return before

    def _chosen(self, block: int, order: OrderConfig, epoch: int) -> Int64[np.ndarray, " samples"]:
        """Which dataset each position of a block takes its sample from."""
        counts = self._quota(block + 1) - self._quota(block)
        datasets = np.repeat(np.arange(len(counts)), counts)
        if not order.shuffle:
            return datasets
        return datasets[permutation(len(datasets), order.seed, epoch, _MIXTURE, block)]

    def _quota(self, blocks: int) -> Int64[np.ndarray, " datasets"]:
        """Samples of each dataset in the first `blocks` blocks; they add up to the positions."""
        total = min(blocks * BLOCK_SAMPLES, self.num_samples)
        ends = np.floor(np.cumsum(self.weights)[:-1] * total + 0.5).astype(np.int64)
        return np.diff(np.concatenate([[0], ends, [total]]))


class _Stream:
    """Takes any number of samples from a stream of stretches."""

    def __init__(self, parts: Iterator[Samples]) -> None:
        self._parts = parts
        self._held: Samples | None = None

    def take(self, count: int) -> Samples:
        taken: list[Samples] = []
        while count:
            if self._held is None or not len(self._held):
                self._held = next(self._parts)
            part = self._held.slice(0, min(count, len(self._held)))
            self._held = self._held.slice(len(part), len(self._held))
            taken.append(part)
            count -= len(part)
        return Samples.joined(taken)


def _endless(reader: TokenReader, first: int, last: int, order: OrderConfig) -> Iterator[Samples]:
    """A dataset's samples number `first` to `last` - 1 of all its epochs, one after the other."""
    count = reader.num_samples
    while first < last:
        epoch, start = divmod(first, count)
        stop = min(count, start + last - first)
        for _, samples in in_batches(
            reader.samples(Positions.of([(start, stop)]), order, epoch), BLOCK_SAMPLES
        ):
            yield samples
        first += stop - start


def _merged(chosen: Int64[np.ndarray, " samples"], streams: list[_Stream]) -> Samples:
    """The next samples of the streams, in the order of `chosen`."""
    parts = []
    places = []
    for number, stream in enumerate(streams):
        (where,) = np.nonzero(chosen == number)
        if len(where):
            parts.append(stream.take(len(where)))
            places.append(where)
    return Samples.joined(parts).take(np.argsort(np.concatenate(places), kind="stable"))


def _check_same_vocabulary(readers: Mapping[str, TokenReader]) -> None:
    names = list(readers)
    for name in names[1:]:
        ours, theirs = readers[names[0]].lineage, readers[name].lineage
        for field in _VOCABULARY:
            if getattr(ours, field) != getattr(theirs, field):
                raise DatasetError(
                    f"{names[0]!r} and {name!r} cannot be mixed: {field} is "
                    f"{getattr(ours, field)} in one and {getattr(theirs, field)} in the other, so "
                    "equal ids mean different things; tokenize both with one tokenizer"
                )
        if readers[names[0]].columns != readers[name].columns:
            raise DatasetError(
                f"{names[0]!r} is read with the columns {readers[names[0]].columns}, {name!r} with "
                f"{readers[name].columns}: open all with the same columns"
            )
