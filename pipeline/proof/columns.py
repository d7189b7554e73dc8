"""The measures as columns of the tables: heading, place in a result, how it is written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NOTHING = "–"


@dataclass(frozen=True)
class Column:
    """A measure.

    Attributes:
        measure: Its name in the summary of a part.
        heading: Its name for people.
        decimals: How many are written.
        scale: What it is multiplied by.
        higher_is_better: Whether more of it is better.
        is_of_pictures: Whether a still picture has it as well.
    """

    measure: str
    heading: str
    decimals: int
    scale: float = 1.0
    higher_is_better: bool = True
    is_of_pictures: bool = True

    def value(self, part: dict[str, Any]) -> float | None:
        """The number in the summary of a part."""
        found = part.get(self.measure)
        return None if found is None else self.scale * found

    def written(self, value: float, *, sign: str = "") -> str:
        """The number as text."""
        return f"{value:{sign}.{self.decimals}f}"


COLUMNS = (
    Column("psnr_db", "PSNR dB", 2),
    Column("ssim", "SSIM", 3),
    Column("perceptual", "VGG distance", 3, higher_is_better=False),
    Column("frechet", "Fréchet distance on the motion network", 2, higher_is_better=False),
    Column("recognised", "motion recognised %", 1, scale=100),
    Column("probe_bag", "probe, words %", 1, scale=100, is_of_pictures=False),
    Column("probe_places", "probe, codes %", 1, scale=100, is_of_pictures=False),
)


def spread(values: Sequence[float | None], decimals: int) -> str:
    """Mean ± sample standard deviation; the mean alone of a single seed."""
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    mean = f"{statistics.fmean(known):.{decimals}f}"
    return f"{mean} ± {statistics.stdev(known):.{decimals}f}" if len(known) > 1 else mean


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of what is there."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
