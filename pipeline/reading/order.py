"""The order of one epoch: a pure function of (seed, epoch) and the row groups of the version.

    row groups ── permuted ──► cut into windows ── each permuted within ──► positions 0 … n - 1

Ranks and workers have no part in it: they take disjoint stretches of positions, so any number of
them reads every sample once, and a run can go on with another number. A window is what a reader
holds in memory; one as large as the dataset makes the order a uniform permutation.

The permutations sort hashed numbers (SplitMix64, in integers only), so they are the same on every
machine and with every version of NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_GROUPS, _ROWS = 1, 2  # what a permutation is for


@dataclass(frozen=True)
class Stretch:
    """Consecutive positions within one window.

    Attributes:
        window: Number of the window.
        start, stop: The positions [start, stop).
        first: Number of the first of them within the window.
    """

    window: int
    start: int
    stop: int
    first: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class EpochOrder:
    """Which sample stands at which position.

    Attributes:
        group_sizes: Samples of each row group, in the index's order.
        seed, epoch: What the permutations depend on.
        shuffle: False keeps the index's order.
        window_samples: A window takes row groups until it has so many samples.
    """

    group_sizes: Int64[np.ndarray, " groups"]
    seed: int = 0
    epoch: int = 0
    shuffle: bool = True
    window_samples: int = 32_768

    @property
    def num_samples(self) -> int:
        """Positions of the epoch."""
        return int(self.group_sizes.sum())

    def stretches(self, start: int, stop: int) -> Iterator[Stretch]:
        """The positions [start, stop) window by window."""
        ends = self._window_ends
        window = int(np.searchsorted(ends, start, side="right"))
        while start < stop:
            begin = int(ends[window - 1]) if window else 0
            end = min(stop, int(ends[window]))
            yield Stretch(window, start, end, start - begin)
            start, window = end, window + 1

    def groups_of(self, window: int) -> Sequence[int]:
        """The row groups of a window, in the order in which their samples are numbered in it."""
        first = int(self._first_groups[window])
        last = len(self._group_order)
        if window + 1 < len(self._first_groups):
            last = int(self._first_groups[window + 1])
        return [int(group) for group in self._group_order[first:last]]

    def rows_of(self, window: int) -> Int64[np.ndarray, " samples"]:
        """For each position of a window the number of its sample among those of its row groups."""
        size = int(self.group_sizes[list(self.groups_of(window))].sum())
        if not self.shuffle:
            return np.arange(size)
        return permutation(size, self.seed, self.epoch, _ROWS, window)

    @cached_property
    def _group_order(self) -> Int64[np.ndarray, " groups"]:
        # Empty groups (a filter may leave nothing of one) would only make windows of no samples.
        groups = np.flatnonzero(self.group_sizes)
        if not self.shuffle:
            return groups
        return groups[permutation(len(groups), self.seed, self.epoch, _GROUPS)]

    @cached_property
    def _first_groups(self) -> Int64[np.ndarray, " windows"]:
        """The number, in the permuted order, of each window's first row group."""
        sizes = self.group_sizes[self._group_order]
        if not self.shuffle:
            return np.arange(len(sizes))
        starts, held = [], 0
        for number, size in enumerate(sizes.tolist()):
            if number == 0 or held >= self.window_samples:
                starts.append(number)
                held = 0
            held += size
        return np.array(starts, np.int64)

    @cached_property
    def _window_ends(self) -> Int64[np.ndarray, " windows"]:
        if not len(self._first_groups):
            return np.zeros(0, np.int64)
        return np.cumsum(np.add.reduceat(self.group_sizes[self._group_order], self._first_groups))


def permutation(count: int, *key: int) -> Int64[np.ndarray, " count"]:
    """The numbers below `count` in an order that depends on `key` alone."""
    state = np.zeros(1, np.uint64)
    for part in key:
        state = _mixed(state ^ np.uint64(part))
    return np.argsort(_mixed(state + _numbers(count) * _GOLDEN_GAMMA), kind="stable")


def _numbers(count: int) -> np.ndarray:
    return np.arange(1, count + 1, dtype=np.uint64)


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's output function. Source: Steele, Lea, Flood, OOPSLA 2014."""
    mixed = values + _GOLDEN_GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MULTIPLIERS[0]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MULTIPLIERS[1]
    return mixed ^ (mixed >> np.uint64(31))
