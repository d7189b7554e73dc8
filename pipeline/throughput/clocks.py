"""When the stages of a side worked: one small file per process, a line per piece of work.

Files, because a worker of Ray is killed rather than ended, and because they cost the worker nothing
but a short line. They lie in the side's scratch directory on the machine that is measured.
"""

from __future__ import annotations

import json
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class Clock:
    """Notes the work of one stage in this process, whichever thread does it."""

    def __init__(self, directory: str | Path, stage: str) -> None:
        Path(directory).mkdir(parents=True, exist_ok=True)
        path = Path(directory) / f"{stage}-{os.getpid()}-{time.monotonic_ns()}.jsonl"
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def note(self, began_s: float, num_clips: int, device_busy_s: float = 0.0) -> None:
        """Work that began then, ends now, and gave so many clips.

        Args:
            began_s: When it began, on the monotonic clock.
            num_clips: What it gave.
            device_busy_s: Seconds in which a GPU has computed for this process up to now.
        """
        with self._lock:
            values = [round(began_s, 6), round(time.monotonic(), 6), num_clips, device_busy_s]
            self._file.write(json.dumps(values) + "\n")

    def close(self) -> None:
        """Nothing more will be noted."""
        self._file.close()


@dataclass(frozen=True)
class WorkLog:
    """What one process did in one stage; times on the machine's monotonic clock.

    Attributes:
        stage: "decode" or "encode".
        pid: The process.
        ready_s: When it was ready to work.
        ended_s: When each piece of work ended.
        busy_s: How long each took.
        num_clips: How many clips each gave.
        device_busy_s: Seconds of a GPU's work for this process up to the end of each.
    """

    stage: str
    pid: int
    ready_s: float
    ended_s: tuple[float, ...] = ()
    busy_s: tuple[float, ...] = ()
    num_clips: tuple[int, ...] = ()
    device_busy_s: tuple[float, ...] = ()

    @property
    def total_clips(self) -> int:
        """Clips of all pieces."""
        return sum(self.num_clips)

    def clips_before(self, moment_s: float) -> int:
        """Clips of the pieces that had ended then."""
        return sum(self.num_clips[: bisect_right(self.ended_s, moment_s)])

    def busy_between(self, first_s: float, last_s: float) -> float:
        """Seconds of work between two moments; pieces of several threads count once."""
        spans = sorted(
            (max(end_s - busy_s, first_s), min(end_s, last_s))
            for end_s, busy_s in zip(self.ended_s, self.busy_s, strict=True)
        )
        total_s, reached_s = 0.0, first_s
        for began_s, ended_s in spans:
            total_s += max(0.0, ended_s - max(began_s, reached_s))
            reached_s = max(reached_s, ended_s)
        return total_s

    def device_busy_between(self, first_s: float, last_s: float) -> float:
        """Seconds of a GPU's work that was taken in between two moments."""
        first, last = (bisect_right(self.ended_s, moment_s) for moment_s in (first_s, last_s))
        before_s, *_ = self.device_busy_s[first - 1 : first] or (0.0,)
        return max((0.0, *(busy_s - before_s for busy_s in self.device_busy_s[first:last])))


def most_at_one_time(logs: Sequence[WorkLog]) -> int:
    """How many processes were between their first and their last piece of work at one time."""
    begins = sorted(log.ended_s[0] - log.busy_s[0] for log in logs)
    ends = sorted(log.ended_s[-1] for log in logs)
    return max(index + 1 - bisect_right(ends, begin_s) for index, begin_s in enumerate(begins))


def read_work_logs(directory: str | Path) -> list[WorkLog]:
    """Everything that clocks noted in `directory`; a last line that was cut off is left out."""
    return [_read(path) for path in sorted(Path(directory).glob("*.jsonl"))]


def _read(path: Path) -> WorkLog:
    stage, pid, _ = path.stem.rsplit("-", 2)
    lines = [line for line in path.read_text().splitlines() if line.endswith("]")]
    entries = [json.loads(line) for line in lines]
    ready_s = entries[0][1] if entries else float("nan")
    work = entries[1:]  # the first line says when the process was ready
    return WorkLog(
        stage,
        int(pid),
        ready_s,
        tuple(ended for _, ended, _, _ in work),
        tuple(ended - began for began, ended, _, _ in work),
        tuple(count for _, _, count, _ in work),
        tuple(device_s for _, _, _, device_s in work),
    )
