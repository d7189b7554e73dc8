"""When the stages of a side worked: one small file per process, a line per piece of work.

Files, because a worker of Ray is killed rather than ended, and because they cost the worker nothing
but a short line. They lie in the side's scratch directory on the machine that is measured.
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path


class Clock:
    """Notes the work of one stage in this process."""

    def __init__(self, directory: str | Path, stage: str) -> None:
        Path(directory).mkdir(parents=True, exist_ok=True)
        path = Path(directory) / f"{stage}-{os.getpid()}-{time.monotonic_ns()}.jsonl"
        self._file = path.open("a", buffering=1)

    def note(self, began_s: float, num_clips: int) -> None:
        """Work that began then, ends now, and gave so many clips."""
        ended_s = time.monotonic()
        self._file.write(json.dumps([round(began_s, 6), round(ended_s, 6), num_clips]) + "\n")

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
    """

    stage: str
    pid: int
    ready_s: float
    ended_s: tuple[float, ...] = ()
    busy_s: tuple[float, ...] = ()
    num_clips: tuple[int, ...] = ()

    @property
    def total_clips(self) -> int:
        """Clips of all pieces."""
        return sum(self.num_clips)

    def clips_before(self, moment_s: float) -> int:
        """Clips of the pieces that had ended then."""
        return sum(self.num_clips[: bisect_right(self.ended_s, moment_s)])

    def busy_between(self, first_s: float, last_s: float) -> float:
        """Seconds of work between two moments."""
        spans = zip(self.ended_s, self.busy_s, strict=True)
        return sum(
            max(0.0, min(end_s, last_s) - max(end_s - busy_s, first_s)) for end_s, busy_s in spans
        )


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
        tuple(ended for _, ended, _ in work),
        tuple(ended - began for began, ended, _ in work),
        tuple(count for _, _, count in work),
    )
