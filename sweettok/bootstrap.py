"""How sure a number is: 95 % intervals by drawing whole groups again and again.

Clips of one video are no independent evidence, so the groups that are drawn are videos.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentiles).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sweettok.errors import ShapeError

MIN_GROUPS = 5  # of fewer, resampling says nothing
PERCENTILES = (2.5, 97.5)
_NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and how far it may be off.

    Attributes:
        mean: The mean.
        low, high: The 95 % interval; None with fewer than `MIN_GROUPS` groups.
    """

    mean: float
    low: float | None
    high: float | None


def mean_interval(
    values: Float[np.ndarray, " n"], groups: Sequence[Hashable] | np.ndarray
) -> Interval:
    """The mean of `values` and its interval, whole groups drawn with replacement.

    Args:
        values: One number per clip, at least one.
        groups: The group of each, its video for example.

    Raises:
        ShapeError: There are no values, or not one group for each.
    """
    if not len(values) or len(values) != len(groups):
        raise ShapeError(f"expected a group for each value, got {len(values)} and {len(groups)}")
    position = group_positions(groups)
    counts = np.bincount(position)
    sums = np.bincount(position, weights=values)
    mean = float(np.mean(values))
    if len(counts) < MIN_GROUPS:
        return Interval(mean, None, None)
    drawn = np.random.default_rng(0).integers(len(counts), size=(_NUM_RESAMPLES, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, PERCENTILES)
    return Interval(mean, float(low), float(high))


def resampled_rows(
    groups: Sequence[Hashable] | np.ndarray, num_resamples: int, seed: int
) -> Iterator[Int[np.ndarray, " rows"]]:
    """The rows of each resample: those of as many groups as there are, drawn with replacement."""
    position = group_positions(groups)
    order = np.argsort(position, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(position))[:-1])
    generator = np.random.default_rng(seed)
    for _ in range(num_resamples):
        drawn = generator.integers(len(members), size=len(members))
        yield np.concatenate([members[group] for group in drawn])


def group_positions(groups: Sequence[Hashable] | np.ndarray) -> Int[np.ndarray, " n"]:
    """The number of each one's group, groups numbered as they first come or by their value."""
    if isinstance(groups, np.ndarray):
        return np.unique(groups, return_inverse=True)[1]
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
