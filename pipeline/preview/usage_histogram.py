"""How many codes were chosen how often, in bins that double."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class UsageBin(NamedTuple):
    """Codes that were chosen `low` to `high` times."""

    low: int
    high: int
    num_codes: int

    @property
    def label(self) -> str:
        """Its limits, for people."""
        if self.low == self.high:
            return f"{self.low:,}"
        return f"{self.low:,}–{self.high:,}"


def usage_histogram(counts: Int[np.ndarray, " num_codes"]) -> tuple[UsageBin, ...]:
    """Bins 0, 1, 2–3, 4–7 … up to the most used code; together they hold every code once."""
    bins = [UsageBin(0, 0, int((counts == 0).sum()))]
    low = 1
    while low <= int(counts.max()):
        high = 2 * low - 1
        bins.append(UsageBin(low, high, int(((counts >= low) & (counts <= high)).sum())))
        low = high + 1
    return tuple(bins)
