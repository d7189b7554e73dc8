"""What has gone through a run so far: counted where its tokens arrive, read by whoever watches.

The committer sees every record of a run, so that one place counts for all stages: what a stage
spent travels with its records.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from pipeline.dataset.assembly import CompletedUnit
from pipeline.dataset.committer import CommitTraffic
from pipeline.records import TokenizedClip, UnitEnd
from pipeline.stage_queues import StageQueues


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Counts since a run began; what was lost and done again counts twice.

    Attributes:
        num_videos: Videos whose fate is known.
        num_clips, num_frames, num_tokens: What came out of the encoders.
        bytes_in: Size of those videos.
        bytes_out: Size of the data files that were committed.
        decode_s, encode_s, commit_s: Seconds in which processes of each stage were at work; those
            of several processes add up.
        num_commits: Commits to the dataset.
        num_retries: Commits that were tried again, and starts of a run that lost its committer.
        reasons: Quarantined videos by reason.
    """

    num_videos: int = 0
    num_clips: int = 0
    num_frames: int = 0
    num_tokens: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    decode_s: float = 0.0
    encode_s: float = 0.0
    commit_s: float = 0.0
    num_commits: int = 0
    num_retries: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def num_quarantined(self) -> int:
        """Videos that gave no clip."""
        return sum(self.reasons.values())

    def plus(self, other: RunTotals) -> RunTotals:
        """Both together."""
        return self._combined(other, 1)

    def since(self, earlier: RunTotals) -> RunTotals:
        """What came after `earlier`."""
        return self._combined(earlier, -1)

    def _combined(self, other: RunTotals, sign: int) -> RunTotals:
        names = [each.name for each in fields(self) if each.name != "reasons"]
        values = {name: getattr(self, name) + sign * getattr(other, name) for name in names}
        reasons = Counter(self.reasons)
        reasons.update({reason: sign * count for reason, count in other.reasons.items()})
        return RunTotals(**values, reasons={name: n for name, n in reasons.items() if n})


class RunObserver(Protocol):
    """Who is told how a run goes, from time to time, in the committer's process."""

    def note(self, totals: RunTotals, commits_s: Sequence[float], queues: StageQueues) -> None:
        """Takes the counts so far, how long each commit since then took, and what waits now."""


class RunTally:
    """Counts the records of a run."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._decode_s = self._encode_s = self._commit_s = 0.0
        self._traffic: CommitTraffic | None = None
        self._num_seen = self._bytes_seen = self._retries_seen = 0

    def count(self, record: TokenizedClip | UnitEnd, completed: CompletedUnit | None) -> None:
        """Takes note of a record, and of the video that it completed, if it did."""
        counts = self._counts
        if isinstance(record, UnitEnd):
            self._decode_s += record.decode_s
        else:
            self._encode_s += record.encode_s
            counts["num_clips"] += 1
            counts["num_frames"] += len(record.window.frame_indices)
            counts["num_tokens"] += len(record.spatial_tokens) + len(record.temporal_tokens)
        if completed is not None:
            counts["num_videos"] += 1
            counts["bytes_in"] += completed.unit.size_bytes
            if completed.quarantine is not None:
                self._reasons[completed.quarantine.reason.value] += 1

    def note_commits(self, traffic: CommitTraffic) -> list[float]:
        """Takes over what a committer's commits moved since the last call; how long each took."""
        if traffic is not self._traffic:  # of the next stream
            self._traffic, self._num_seen = traffic, 0
            self._bytes_seen = self._retries_seen = 0
        commits_s = traffic.commits_s[self._num_seen :]
        self._num_seen += len(commits_s)
        counts = self._counts
        counts["num_commits"] += len(commits_s)
        counts["bytes_out"] += traffic.num_bytes - self._bytes_seen
        counts["num_retries"] += traffic.num_retries - self._retries_seen
        self._bytes_seen, self._retries_seen = traffic.num_bytes, traffic.num_retries
        self._commit_s += sum(commits_s)
        return commits_s

    def totals(self) -> RunTotals:
        """The counts so far."""
        return RunTotals(
            **dict(self._counts),
            decode_s=self._decode_s,
            encode_s=self._encode_s,
            commit_s=self._commit_s,
            reasons=dict(self._reasons),
        )


class BusyClock:
    """Seconds in which at least one thread was at work: those of several at one time count once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_active = 0
        self._since_s = 0.0

    def start(self) -> None:
        """A thread begins to work."""
        with self._lock:
            if not self._num_active:
                self._since_s = time.monotonic()
            self._num_active += 1

    def stop(self) -> float:
        """A thread has done its work; returns the seconds that no other call has returned."""
        with self._lock:
            now_s = time.monotonic()
            spent_s, self._since_s = now_s - self._since_s, now_s
            self._num_active -= 1
            return spent_s
