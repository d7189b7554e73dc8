"""Which videos are looked at, and what they tell of all: a stratified sample with ratio estimates.

Videos are sorted by size and divided into strata that hold about equally many bytes, so that the
few long videos of a corpus, which make most of its clips, are looked at as well as the many short
ones. What is asked for (clips, seconds …) goes with a video's size, so each stratum's total is its
bytes times what a byte of its sample gave.

Source: W. G. Cochran, Sampling Techniques (1977), sections 5.3 and 6.10 (separate ratio estimate).
Differs: The finite-population correction counts bytes that were worked on, not videos, since of
large videos only a part is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Generic, TypeVar

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Int64

from pipeline.records import WorkUnit
from pipeline.unit_parts import MAX_PARTS
from pipeline.unit_table import UnitTable

_VIDEOS_PER_STRATUM = 3  # fewer say little about how they differ

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Estimated:
    """A total that was reckoned from a sample.

    Attributes:
        value: The estimate.
        standard_error: Its own standard deviation over samples.
        degrees: Degrees of freedom of that; 0 if nothing was left to chance.
    """

    value: float
    standard_error: float = 0.0
    degrees: int = 0

    def interval(self, confidence: float) -> tuple[float, float]:
        """Lower and upper bound of what the true value is, none below 0."""
        if not self.degrees or not self.standard_error:
            return self.value, self.value
        reach = student_quantile((1 + confidence) / 2, self.degrees) * self.standard_error
        return max(0.0, self.value - reach), self.value + reach

    def times(self, factor: float, relative_error: float = 0.0) -> Estimated:
        """The product with something else that was measured, with that one's relative error."""
        own = self.standard_error / self.value if self.value else 0.0
        value = self.value * factor
        error = math.hypot(own, relative_error) * abs(value)
        return Estimated(value, error, max(self.degrees, 1) if relative_error else self.degrees)

    def plus(self, known: float) -> Estimated:
        """The sum with something that nothing is uncertain about."""
        return replace(self, value=self.value + known)


@dataclass(frozen=True)
class Stratum(Generic[ItemT]):
    """Videos of similar sizes.

    Attributes:
        num_videos: How many there are.
        size_bytes: Their bytes.
        sample: Those that were drawn, or what became known of each.
    """

    num_videos: int
    size_bytes: int
    sample: tuple[ItemT, ...]


def draw(units: UnitTable, num_videos: int, seed: int) -> list[Stratum[WorkUnit]]:
    """Draws videos, more of the large ones; the same ones for the same units and seed.

    Args:
        units: All videos; at least one.
        num_videos: How many to draw; all if there are no more.
        seed: Seed of the draw.
    """
    sizes = pc.fill_null(units.table["size_bytes"], 0).to_numpy()
    groups = _groups(sizes, max(1, num_videos // _VIDEOS_PER_STRATUM))
    shares = _shares([len(group) for group in groups], num_videos)
    random = np.random.default_rng(seed)
    strata = []
    for group, share in zip(groups, shares, strict=True):
        drawn = np.sort(random.choice(group, share, replace=False))
        videos = tuple(units.slice(int(place), 1)[0] for place in drawn)
        strata.append(Stratum(len(group), int(sizes[group].sum()), videos))
    return strata


def part_of(unit: WorkUnit, max_bytes: int, random: np.random.Generator) -> WorkUnit:
    """One part, drawn at random, of a video above `max_bytes`; the video itself below."""
    num_parts = min(MAX_PARTS, -(-unit.size_bytes // max_bytes))
    if num_parts <= 1 or unit.fault is not None:
        return unit
    return replace(unit, part_index=int(random.integers(num_parts)), num_parts=num_parts)


def total_by_bytes(
    strata: Sequence[Stratum[ItemT]],
    value: Callable[[ItemT], float],
    size_bytes: Callable[[ItemT], int],
    seen_bytes: Callable[[ItemT], float],
) -> Estimated:
    """The total over all videos of what grows with their size.

    Args:
        strata: With what became known of each drawn video.
        value: A video's share in the total.
        size_bytes: Its size.
        seen_bytes: How much of it was worked on.
    """
    total, variance, degrees = 0.0, 0.0, 0
    for stratum in strata:
        values = np.array([value(item) for item in stratum.sample], float)
        sizes = np.array([size_bytes(item) for item in stratum.sample], float)
        if not sizes.sum():  # nothing but empty files
            total += stratum.num_videos * values.mean()
            continue
        ratio = values.sum() / sizes.sum()
        seen = min(1.0, sum(map(seen_bytes, stratum.sample)) / stratum.size_bytes)
        total += ratio * stratum.size_bytes
        if len(values) > 1:
            spread = float(((values - ratio * sizes) ** 2).sum()) / (len(values) - 1)
            variance += stratum.num_videos**2 * (1 - seen) * spread / len(values)
            degrees += len(values) - 1
    return Estimated(total, math.sqrt(variance), degrees)


def total_by_number(strata: Sequence[Stratum[ItemT]], value: Callable[[ItemT], float]) -> Estimated:
    """The total over all videos of what has nothing to do with their size."""
    total, variance, degrees = 0.0, 0.0, 0
    for stratum in strata:
        values = np.array([value(item) for item in stratum.sample], float)
        num_drawn, num_videos = len(values), stratum.num_videos
        total += num_videos * values.mean()
        if num_drawn > 1:
            left = 1 - num_drawn / num_videos
            variance += num_videos**2 * left * values.var(ddof=1) / num_drawn
            degrees += num_drawn - 1
    return Estimated(total, math.sqrt(variance), degrees)


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution; within 2 % from 3 degrees of freedom on.

    Source: M. Abramowitz and I. Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


def _groups(
    sizes: Int64[np.ndarray, " videos"], num_groups: int
) -> list[Int64[np.ndarray, " videos"]]:
    """Positions of the videos, by size, in groups of about equally many bytes; none is empty."""
    order = np.argsort(sizes, kind="stable")
    ends = np.cumsum(sizes[order], dtype=np.float64)
    middles = ends - sizes[order] / 2
    numbers = np.minimum(num_groups * middles / max(ends[-1], 1.0), num_groups - 1).astype(int)
    return [order[numbers == number] for number in range(num_groups) if (numbers == number).any()]


def _shares(group_sizes: Sequence[int], num_drawn: int) -> list[int]:
    """How many to draw from each group: equally many, as far as it has them."""
    shares = [0] * len(group_sizes)
    for _ in range(min(num_drawn, sum(group_sizes))):
        open_groups = [i for i, size in enumerate(group_sizes) if shares[i] < size]
        # The largest videos come last, and what is left over goes to them.
        shares[min(open_groups, key=lambda i: (shares[i], -i))] += 1
    return shares
