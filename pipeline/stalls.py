"""A run that finishes nothing: noticed after a configured time, with the place where it waits."""

from __future__ import annotations

import time

from pipeline.actors import Progress
from pipeline.errors import StalledError


class StallWatch:
    """Takes the progress of one stream as it comes.

    Args:
        limit_s: How long nothing may finish (`engine.no_progress_timeout_s`).
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._last = Progress()
        self._changed_s = time.monotonic()
        self._is_answering = True

    @property
    def is_stalled(self) -> bool:
        """Whether nothing has finished for too long."""
        return self._idle_s > self._limit_s

    def note(self, progress: Progress) -> None:
        """The committer has answered."""
        if progress != self._last:
            self._changed_s = time.monotonic()
        self._last, self._is_answering = progress, True

    def note_silence(self) -> None:
        """The committer has not answered in time: it is at work on something that holds it up."""
        self._is_answering = False

    def error(self, num_before: int, num_videos: int) -> StalledError:
        """What to tell the user.

        Args:
            num_before: Videos that were done before this stream.
            num_videos: Videos of the whole run.
        """
        where = (
            f"{self._last.queues.where_stuck()} ({self._last.queues.lines()})"
            if self._is_answering
            else "The committer does not answer: see that the dataset's storage does"
        )
        return StalledError(
            f"nothing finished for {self._idle_s:.0f} s (engine.no_progress_timeout_s = "
            f"{self._limit_s:g}); {num_before + self._last.num_units} of {num_videos} videos were "
            f"done. {where}. Then run the same command again: it continues"
        )

    @property
    def _idle_s(self) -> float:
        return time.monotonic() - self._changed_s
