"""How much each row differs from the method, and how sure that is: a bootstrap over videos.

Clips of one video are no independent evidence, so whole videos are drawn. What varies is which
videos were held out; the spread over seeds is another matter and stands in the table.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentiles).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.run_files import read_by_clip

MIN_VIDEOS = 5  # of fewer, resampling says nothing
_NUM_RESAMPLES = 2000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Difference:
    """A row's mean minus the reference row's, on the same clips.

    Attributes:
        mean: Mean over clips and common seeds.
        low, high: The 95 % interval; None with fewer than `MIN_VIDEOS` videos.
    """

    mean: float
    low: float | None
    high: float | None


def part_differences(
    row: Mapping[int | None, Path],
    reference: Mapping[int | None, Path],
    part: str,
    clips: ClipSet,
    max_perceptual_clips: int,
) -> dict[str, Difference]:
    """Differences of a row to the reference on one part, by measure.

    Args:
        row: Directories of measures by seed; the seed of an anchor, which has none, is None.
        reference: Those of the reference row.
        part: Name of the part.
        clips: Its clips.
        max_perceptual_clips: On how many of them the perceptual distance was measured.
    """
    pairs = [
        (read_by_clip(row[None if None in row else seed], part), read_by_clip(directory, part))
        for seed, directory in reference.items()
        if None in row or seed in row
    ]
    videos = np.array(clips.videos)
    found = {}
    for name in pairs[0][0] if pairs else ():
        both = [(ours[name], theirs[name]) for ours, theirs in pairs if name in theirs]
        if not both or both[0][0].ndim != 1:
            continue
        by_clip = np.mean([(ours - theirs).double().numpy() for ours, theirs in both], axis=0)
        chosen = videos
        if name == "perceptual":
            chosen = videos[list(clips.chosen_positions(max_perceptual_clips))]
        found[name] = bootstrapped(by_clip, chosen)
    return found


def bootstrapped(
    by_clip: Float[np.ndarray, " n"], videos: Sequence[int] | np.ndarray
) -> Difference:
    """The mean over clips and its interval, whole videos drawn with replacement."""
    _, position = np.unique(videos, return_inverse=True)
    counts = np.bincount(position)
    sums = np.bincount(position, weights=by_clip)
    mean = float(by_clip.mean())
    if len(counts) < MIN_VIDEOS:
        return Difference(mean, None, None)
    drawn = np.random.default_rng(0).integers(len(counts), size=(_NUM_RESAMPLES, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, _PERCENTILES)
    return Difference(mean, float(low), float(high))
