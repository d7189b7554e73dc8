"""Some of many, spread evenly and in no step with anything that repeats.

Every tenth of a list whose labels take turns sees few of the labels. Golden-ratio steps meet no
such rhythm: their fractions fill [0, 1) evenly, and no two of them are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def spread_positions(num_positions: int, count: int) -> Int[np.ndarray, " count"]:
    """`count` different positions below `num_positions` (all of them if fewer), ascending."""
    return np.sort(np.argsort(_fractions(num_positions), kind="stable")[:count])


def spread_over_labels(labels: Sequence[int], count: int) -> Int[np.ndarray, " count"]:
    """`count` different positions (all of them if fewer), ascending.

    Of every label equally many, as far as there are so many; where that leaves a rest, of different
    labels.
    """
    fractions = _fractions(len(labels))
    of_clip = np.asarray(labels)
    turns = np.zeros(len(labels), np.int64)
    for label in np.unique(of_clip):
        (of_label,) = np.nonzero(of_clip == label)
        turns[of_label[np.argsort(fractions[of_label], kind="stable")]] = np.arange(len(of_label))
    return np.sort(np.lexsort((fractions, turns))[:count])


def _fractions(num_positions: int) -> np.ndarray:
    return np.modf(np.arange(num_positions) * _GOLDEN_RATIO)[0]
