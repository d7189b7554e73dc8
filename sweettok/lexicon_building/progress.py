"""Log lines of long work: how far, how fast, every few seconds."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0


class ProgressLog:
    """Counts what is done and logs it every few seconds.

    Args:
        activity: What is going on, such as "embedding".
        unit: What is counted, in the plural.
        total: How many there will be, if that is known.
    """

    def __init__(self, activity: str, unit: str, total: int | None = None) -> None:
        self._activity = activity
        self._unit = unit
        self._of_total = "" if total is None else f" of {total:,}"
        self._num_done = 0.0
        self._started_s = self._last_line_s = time.monotonic()

    def advance(self, count: float) -> None:
        """Adds `count`, which need not be whole, and logs if the last line is old enough."""
        self._num_done += count
        if time.monotonic() - self._last_line_s >= _SECONDS_BETWEEN_LINES:
            self._log()

    def finish(self) -> None:
        """Logs the whole."""
        self._log()

    def _log(self) -> None:
        self._last_line_s = time.monotonic()
        rate = self._num_done / max(self._last_line_s - self._started_s, 1e-9)
        logger.info(
            "%s: %s%s %s, %s/s",
            self._activity,
            f"{self._num_done:,.0f}",
            self._of_total,
            self._unit,
            f"{rate:,.0f}",
        )
