"""How a run went: its counts at moments that lie further apart the longer it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.run_totals import RunTotals

MAX_MOMENTS = 512


@dataclass(frozen=True, slots=True)
class Moment:
    """The counts at one time.

    Attributes:
        at_s: Seconds since the run began.
        totals: The counts since then.
    """

    at_s: float
    totals: RunTotals


class RunTimeline:
    """Keeps moments of a run of any length in little memory, evenly spread."""

    def __init__(self) -> None:
        self._moments = [Moment(0.0, RunTotals())]
        self._interval_s = 0.0
        self._last: Moment | None = None

    @property
    def moments(self) -> Sequence[Moment]:
        """What was kept, and the latest, in the order of time."""
        return (*self._moments, *([self._last] if self._last is not None else []))

    def note(self, at_s: float, totals: RunTotals) -> None:
        """Takes the counts at a moment later than all before."""
        self._last = Moment(at_s, totals)
        if at_s - self._moments[-1].at_s < self._interval_s:
            return
        self._moments.append(self._last)
        self._last = None
        if len(self._moments) > MAX_MOMENTS:
            self._moments = self._moments[::2]
            self._interval_s = 2 * at_s / MAX_MOMENTS
