"""Sets of positions in an epoch's order, as sorted intervals: what was read and what is left.

A position is a number in [0, number of samples). Ranks read long stretches, so a few intervals say
exactly what a run of any length has consumed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Positions:
    """A set of positions: disjoint, non-empty intervals [start, stop) in increasing order."""

    intervals: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, intervals: Iterable[Iterable[int]]) -> Positions:
        """The union of `intervals`, which may touch, but not overlap.

        Raises:
            ValueError: Two of them overlap, or one is no interval.
        """
        merged: list[tuple[int, int]] = []
        for start, stop in sorted((int(start), int(stop)) for start, stop in intervals):
            if start < 0 or stop < start:
                raise ValueError(f"[{start}, {stop}) is no interval of positions")
            if merged and start < merged[-1][1]:
                raise ValueError(
                    f"[{start}, {stop}) and [{merged[-1][0]}, {merged[-1][1]}) overlap"
                )
            if merged and start == merged[-1][1]:
                merged[-1] = (merged[-1][0], stop)
            elif stop > start:
                merged.append((start, stop))
        return cls(tuple(merged))

    @classmethod
    def first(cls, count: int) -> Positions:
        """The positions from 0 to `count` - 1."""
        return cls.of([(0, count)])

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.intervals)

    def __or__(self, other: Positions) -> Positions:
        """The union of two disjoint sets; raises ValueError if they are not."""
        return Positions.of([*self.intervals, *other.intervals])

    def __sub__(self, other: Positions) -> Positions:
        """The positions that are not in `other`."""
        left: list[tuple[int, int]] = []
        gone = iter([*other.intervals, (self._end, self._end + 1)])
        low, high = next(gone)
        for begin, stop in self.intervals:
            start = begin
            while high <= start:
                low, high = next(gone)
            while low < stop:
                left.append((start, low))
                start = high
                if high > stop:
                    break
                low, high = next(gone)
            left.append((min(start, stop), stop))
        return Positions.of((start, stop) for start, stop in left if start < stop)

    def contains(self, other: Positions) -> bool:
        """Whether every position of `other` is in this set."""
        return len(self - other) == len(self) - len(other)

    def slice(self, first: int, last: int) -> Positions:
        """The positions number `first` to `last` - 1 of the set, in increasing order."""
        return Positions(tuple(self._stretches(first, last)))

    def split(self, num_shards: int) -> list[Positions]:
        """Contiguous shards, disjoint and complete, whose sizes differ by one at most."""
        count = len(self)
        ends = [number * count // num_shards for number in range(num_shards + 1)]
        return [self.slice(*pair) for pair in itertools.pairwise(ends)]

    def to_list(self) -> list[list[int]]:
        """The intervals as plain lists, for a checkpoint."""
        return [[start, stop] for start, stop in self.intervals]

    @property
    def _end(self) -> int:
        return self.intervals[-1][1] if self.intervals else 0

    def _stretches(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        before = 0
        for start, stop in self.intervals:
            low, high = max(first - before, 0), min(last - before, stop - start)
            if low < high:
                yield start + low, start + high
            before += stop - start
