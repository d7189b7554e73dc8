"""What the pipeline should reach beside the other sides, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.throughput.config import TEXTBOOKS, SideName
from pipeline.throughput.figures import SideFigures

_STAGES: tuple[SideName, ...] = ("decode", "encode")


@dataclass(frozen=True)
class Goal:
    """A ratio that is to be reached.

    Attributes:
        name: What is compared.
        value: The ratio found: the median of the rounds' ratios.
        lowest, highest: Over the rounds.
        limit: What it should be.
        is_upper: Whether it should be at most that; else at least.
    """

    name: str
    value: float
    lowest: float
    highest: float
    limit: float
    is_upper: bool

    @property
    def is_met(self) -> bool:
        """Whether the value is on the right side of the limit."""
        return self.value <= self.limit if self.is_upper else self.value >= self.limit


def goals(rounds: Sequence[Mapping[SideName, SideFigures]], disk_ratio: float) -> list[Goal]:
    """All comparisons that the measured sides allow, ratios taken within a round.

    Args:
        rounds: Figures of every side, a mapping per round.
        disk_ratio: Bytes of the token columns ÷ entropy of the ids.
    """
    found = [
        _goal(
            "CPU s per clip ÷ (decode + encode alone)", [_cpu_ratio(r) for r in rounds], 1.10, True
        )
    ]
    if all("two_processes" in r for r in rounds):
        ratios = [r["pipeline"].clips_per_s / _best_split_clips_per_s(r) for r in rounds]
        found.append(_goal("clips/s ÷ best split over two processes", ratios, 0.90, False))
    limits: dict[SideName, float] = {"serial": 1.5, **dict.fromkeys(TEXTBOOKS, 2.0)}
    for side, limit in limits.items():
        if all(side in r for r in rounds):
            ratios = [r["pipeline"].clips_per_s / r[side].clips_per_s for r in rounds]
            found.append(_goal(f"clips/s ÷ {side}", ratios, limit, False))
    for side in TEXTBOOKS:
        if all(side in r for r in rounds):
            ratios = [r["pipeline"].peak_pss_bytes / r[side].peak_pss_bytes for r in rounds]
            found.append(_goal(f"peak memory ÷ {side}", ratios, 1.0, True))
    if not math.isnan(disk_ratio):
        found.append(_goal("bytes of tokens on disk ÷ entropy of ids", [disk_ratio], 1.10, True))
    return found


def _cpu_ratio(figures: Mapping[SideName, SideFigures]) -> float:
    alone_s = figures["decode"].cpu_s_per_clip + figures["encode"].cpu_s_per_clip
    return figures["pipeline"].cpu_s_per_clip / alone_s


def _best_split_clips_per_s(figures: Mapping[SideName, SideFigures]) -> float:
    """Two processes with half of the videos each, or one that decodes and one that encodes."""
    rates = [figures[side].clips_per_s / figures[side].num_processes for side in _STAGES]
    return max(figures["two_processes"].clips_per_s, min(rates))


def _goal(name: str, ratios: Sequence[float], limit: float, is_upper: bool) -> Goal:
    return Goal(name, median(ratios), min(ratios), max(ratios), limit, is_upper)


def median(values: Iterable[float]) -> float:
    """The median; NaN of nothing."""
    ordered = sorted(value for value in values if not math.isnan(value))
    if not ordered:
        return math.nan
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
