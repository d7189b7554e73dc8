"""How much each row differs from the method, and how sure that is: a bootstrap over videos.

What varies is which videos were held out; the spread over seeds is another matter and stands in the
table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.run_files import read_by_clip
from sweettok.bootstrap import Interval, mean_interval


def part_differences(
    row: Mapping[int | None, Path],
    reference: Mapping[int | None, Path],
    part: str,
    clips: ClipSet,
    max_perceptual_clips: int,
) -> dict[str, Interval]:
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
        found[name] = mean_interval(by_clip, chosen)
    return found
