"""A Fréchet distance with its interval, and a warning where the sample is too small for one.

The distance of a sample lies above that of all there is, the more so the fewer clips there are, and
a resample has fewer different clips still. So resamples say how much the distance varies, not where
it lies: their spread is laid around the distance that was measured. Two distances compare if they
are of equally many clips.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sweettok.bootstrap import MIN_GROUPS, PERCENTILES, group_positions, resampled_rows
from sweettok.errors import ShapeError
from sweettok.frechet import (
    VECTORS_PER_FEATURE,
    FeatureStatistics,
    frechet_distance,
    has_enough_vectors,
)

_SEEDS = (0, 1)  # of the resamples of the first and of the second set


@dataclass(frozen=True)
class FrechetEstimate:
    """A distance and what it is worth.

    Attributes:
        distance: Squared Fréchet distance of the two samples.
        low, high: 95 % interval of a distance of samples of this size; None with too few groups.
        num_vectors: Vectors of the smaller set.
        num_features: Length of the vectors.
        warning: Why the number means little; None if nothing speaks against it.
    """

    distance: float
    low: float | None
    high: float | None
    num_vectors: int
    num_features: int
    warning: str | None


def paired_frechet(
    originals: Float[Tensor, "n d"],
    copies: Float[Tensor, "n d"],
    groups: Sequence[Hashable],
    *,
    num_resamples: int = 200,
) -> FrechetEstimate:
    """Distance between clips and what became of the same clips: both are drawn together.

    Args:
        originals: Features of the clips, finite, at least two.
        copies: Features of their reconstructions, in the same order.
        groups: The video of each.
        num_resamples: How often the groups are drawn.

    Raises:
        ShapeError: The sets do not belong together, or are too small for a covariance.
    """
    if originals.shape != copies.shape or len(groups) != len(originals):
        raise ShapeError(
            f"expected a copy and a group for each original, got {list(originals.shape)}, "
            f"{list(copies.shape)} and {len(groups)} groups"
        )
    drawn = resampled_rows(groups, num_resamples, _SEEDS[0])
    pairs = ((originals[rows], copies[rows]) for rows in drawn)
    num_groups = int(group_positions(groups).max(initial=-1)) + 1
    return _estimate(originals, copies, pairs, num_groups)


def unpaired_frechet(
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "m d"],
    real_groups: Sequence[Hashable],
    generated_groups: Sequence[Hashable],
    *,
    num_resamples: int = 200,
) -> FrechetEstimate:
    """Distance between two independent sets of clips: each is drawn by itself.

    Args:
        real, generated: Their features, finite, at least two of each.
        real_groups, generated_groups: The video of each clip.
        num_resamples: How often the groups are drawn.

    Raises:
        ShapeError: Features of different lengths, or a set too small for a covariance.
    """
    draws = [
        resampled_rows(groups, num_resamples, seed)
        for groups, seed in zip((real_groups, generated_groups), _SEEDS, strict=True)
    ]
    pairs = ((real[first], generated[second]) for first, second in zip(*draws, strict=True))
    num_groups = min(len(set(real_groups)), len(set(generated_groups)))
    return _estimate(real, generated, pairs, num_groups)


def _estimate(
    first: Tensor, second: Tensor, resamples: Iterator[tuple[Tensor, Tensor]], num_groups: int
) -> FrechetEstimate:
    distance = frechet_distance(FeatureStatistics.of(first), FeatureStatistics.of(second))
    num_vectors, num_features = min(len(first), len(second)), first.shape[1]
    low = high = None
    if num_groups >= MIN_GROUPS:
        found = np.array(
            [
                frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))
                for a, b in resamples
            ]
        )
        shift = distance - found.mean()
        low, high = (max(0.0, float(end + shift)) for end in np.percentile(found, PERCENTILES))
    warning = _warning(num_vectors, num_features, num_groups)
    return FrechetEstimate(distance, low, high, num_vectors, num_features, warning)


def _warning(num_vectors: int, num_features: int, num_groups: int) -> str | None:
    if not has_enough_vectors(num_vectors, num_features):
        return (
            f"{num_vectors} clips are too few for {num_features} features: below "
            f"{VECTORS_PER_FEATURE * num_features} the distance says more of the sample than of "
            "the clips"
        )
    if num_groups < MIN_GROUPS:
        return f"clips of {num_groups} videos: no interval, and little that holds for other videos"
    return None
