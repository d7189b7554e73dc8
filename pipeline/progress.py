"""How a run goes, for whoever looks on: a line per stage in a terminal, one now and then in a log.

A terminal's lines are drawn again in place; a log line that comes in between pushes them down. What
is no terminal gets one plain line per interval in which something happened.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

from pipeline.run_timeline import RunTimeline
from pipeline.run_totals import RunTotals
from pipeline.wording import counted

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 5.0
_BAR_WIDTH = 24
_UP_AND_CLEAR = "\x1b[1A\x1b[2K"


class RunProgress:
    """Takes the counts of a run as they come, keeps its timeline and shows them.

    Args:
        num_videos: Videos of the run.
        stream: Where a terminal would be; the process's standard error if None.
    """

    def __init__(self, num_videos: int, stream: TextIO | None = None) -> None:
        self.timeline = RunTimeline()
        self._num_videos = num_videos
        self._began_s = self._logged_s = time.monotonic()
        self._before = self._totals = self._logged = RunTotals()
        stream = stream or sys.stderr
        self._block = _Block(stream) if stream.isatty() else None

    @property
    def totals(self) -> RunTotals:
        """The counts of the whole run."""
        return self._totals

    def note(self, totals: RunTotals) -> None:
        """Takes the counts of the committer at work now, and shows what has changed."""
        now_s = time.monotonic()
        self._totals = self._before.plus(totals)
        self.timeline.note(now_s - self._began_s, self._totals)
        if self._block is not None:
            self._block.draw(self._stage_lines(now_s - self._began_s))
        elif self._totals != self._logged and now_s - self._logged_s >= PROGRESS_INTERVAL_S:
            self._logged, self._logged_s = self._totals, now_s
            logger.info(self._line())

    def restart(self) -> None:
        """The committer was lost: the next one counts from 0."""
        self._before = self._totals.plus(RunTotals(num_retries=1))

    def close(self) -> None:
        """Leaves the terminal as it is; safe to call twice."""
        block, self._block = self._block, None
        if block is not None:
            block.close()

    def _line(self) -> str:
        totals = self._totals
        return (
            f"{totals.num_videos:,} of {counted(self._num_videos, 'video')} done, "
            f"{totals.num_quarantined:,} quarantined, {counted(totals.num_clips, 'clip')} tokenized"
        )

    def _stage_lines(self, elapsed_s: float) -> list[str]:
        totals = self._totals
        share = min(1.0, totals.num_videos / max(self._num_videos, 1))
        bar = "█" * round(share * _BAR_WIDTH)
        per_s = totals.num_clips / max(elapsed_s, 1e-9)
        megabytes = totals.bytes_out / 1e6
        return [
            f"decode {bar:░<{_BAR_WIDTH}} {totals.num_videos:,} of {self._num_videos:,} videos, "
            f"{totals.num_quarantined:,} quarantined · {totals.decode_s:,.0f} s",
            f"encode {totals.num_clips:,} clips, {totals.num_tokens:,} tokens · {per_s:,.1f} "
            f"clips/s · {totals.encode_s:,.0f} s",
            f"commit {counted(totals.num_commits, 'commit')}, {megabytes:,.1f} MB · "
            f"{totals.commit_s:,.0f} s",
        ]


class _Block(logging.Filter):
    """Lines at the end of a terminal that are drawn again in place.

    As a filter of the root logger's handlers it clears itself away before a log line is written.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._num_drawn = 0
        self._handlers = list(logging.getLogger().handlers)
        for handler in self._handlers:
            handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 (the base's signature)
        """Makes room for a log line; lets all pass."""
        self._clear()
        return True

    def draw(self, lines: list[str]) -> None:
        """Shows `lines` in the place of what was shown before."""
        self._clear()
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._num_drawn = len(lines)

    def close(self) -> None:
        """Lets what is shown stand."""
        for handler in self._handlers:
            handler.removeFilter(self)

    def _clear(self) -> None:
        if self._num_drawn:
            self._stream.write(_UP_AND_CLEAR * self._num_drawn)
            self._stream.flush()
            self._num_drawn = 0
