"""Stops a run that is going wrong while it has cost little: too many videos give no clip.

A forgotten permission or a wrong endpoint quarantines every video of a corpus one by one, without
a single error. Counting the fates of finished videos tells such a run from one with a few bad
files.
"""

from __future__ import annotations

from collections import Counter

from pipeline.dataset.assembly import CompletedUnit
from pipeline.errors import QuarantineLimitError

_NUM_REASONS_SHOWN = 5


class QuarantineLimit:
    """Counts finished videos and objects when too many of them are quarantined.

    Args:
        max_fraction: Largest allowed share of quarantined videos, in [0, 1]; None allows all.
        min_units: The share counts once so many videos are finished.
    """

    def __init__(self, max_fraction: float | None = None, min_units: int = 1) -> None:
        self._max_fraction = max_fraction
        self._min_units = min_units
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._num_units = 0

    @property
    def num_units(self) -> int:
        """Finished videos."""
        return self._num_units

    @property
    def num_quarantined(self) -> int:
        """Those of them that gave no clip."""
        return self._reasons.total()

    def count(self, completed: CompletedUnit) -> None:
        """Takes note of a video's fate."""
        self._num_units += 1
        quarantine = completed.quarantine
        if quarantine is not None:
            self._reasons[quarantine.reason] += 1
            example = f"{completed.unit.uri}: {quarantine.message}"
            self._examples.setdefault(quarantine.reason, example)

    def check(self) -> None:
        """Raises once the share is too large.

        Raises:
            QuarantineLimitError: With the most frequent reasons, an example of each, a remedy.
        """
        if self._max_fraction is None or self._num_units < self._min_units:
            return
        if self.num_quarantined <= self._max_fraction * self._num_units:
            return
        top = self._reasons.most_common(_NUM_REASONS_SHOWN)
        lines = "\n".join(f"  {count} {reason}: {self._examples[reason]}" for reason, count in top)
        raise QuarantineLimitError(
            f"{self.num_quarantined} of the first {self._num_units} videos were quarantined, above "
            f"engine.max_quarantine_fraction = {self._max_fraction:g}:\n{lines}\n"
            "What was finished is committed. Correct the cause and run the same command with "
            f"retry_quarantined=[{', '.join(reason for reason, _ in top)}]; if the corpus is like "
            "that, raise engine.max_quarantine_fraction"
        )
