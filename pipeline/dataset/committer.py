"""Exactly-once commits: completed units become data files, data files become one atomic commit.

A commit has two steps, in this order:

1. The clip table: rows of units with clips go in, older rows of changed videos go out, in one
   transaction. Units that another writer has committed meanwhile are left out.
2. The quarantine table: rows of units without clips go in; rows of videos that now have tokens
   go out.

A crash before step 1 leaves data files that no commit names: nobody sees them, and the next run
does the work again. A crash between the steps leaves either a video in both tables, where tokens
win (readers look at it this way, and the next commit removes the row), or a unit without clips in
neither, which the next plan lists as new. Every state between heals by running the same command.

Every attempt decides on the newest state of both tables, read in this order: clips, quarantine.
Videos that were taken down meanwhile are left out, and a takedown that was stopped half-way
(pipeline/dataset/deletion.py) is completed. Data files that waited so long that a clean-up might
take them for abandoned are written anew before they are committed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from pipeline.dataset.assembly import CompletedUnit, UnitAssembler
from pipeline.dataset.commits import DEFAULT_ATTEMPTS, on_newest_state
from pipeline.dataset.data_files import DataFile
from pipeline.dataset.rows import quarantine_rows, token_rows
from pipeline.dataset.schema import attribute_names
from pipeline.dataset.side_files import checked_name
from pipeline.dataset.token_dataset import TokenDataset
from pipeline.errors import PipelineError, QuarantineReason
from pipeline.records import TokenizedClip, UnitEnd
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)


class CommitConfig(StrictConfig):
    """When rows become visible, and how large the files are.

    Attributes:
        every_clips: Commit once this many clips are waiting; null waits for the end.
        every_s: Commit once this many seconds have passed since the last one: what a crash can
            cost. Null does not.
        target_file_bytes: Tokens per data file before compression, in bytes; also the bound of
            what waits in memory.
        attempts: How often a commit is tried when other writers keep committing first.
    """

    every_clips: int | None = pydantic.Field(default=500_000, ge=1)
    every_s: float | None = pydantic.Field(default=300, gt=0)
    target_file_bytes: int = pydantic.Field(default=64 * 2**20, ge=1)
    attempts: int = pydantic.Field(default=DEFAULT_ATTEMPTS, ge=1)


@dataclass(frozen=True, slots=True)
class CommitSummary:
    """What a committer has committed so far.

    Attributes:
        num_videos: Videos whose clips were committed.
        num_clips: Clips of those videos.
        num_quarantined: Videos that were quarantined.
        num_replaced: Videos among both whose older rows were taken out of the clip table.
        num_skipped: Videos that another writer had committed first, or that were taken down.
        num_commits: Atomic commits to the clip table.
    """

    num_videos: int = 0
    num_clips: int = 0
    num_quarantined: int = 0
    num_replaced: int = 0
    num_skipped: int = 0
    num_commits: int = 0


@dataclass(slots=True)
class CommitTraffic:
    """What a committer's commits moved and cost.

    Attributes:
        num_bytes: Size of the data files that were committed.
        num_retries: Attempts that another writer or the store brought to nothing.
        commits_s: Seconds that each commit of anything took, with the writing of its last file.
    """

    num_bytes: int = 0
    num_retries: int = 0
    commits_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Written:
    """A data file that waits for its commit, and the fingerprint of each video in it."""

    file: DataFile
    videos: dict[str, str]


class Committer:
    """Takes records in any order and commits whole units, each exactly once.

    One per process and run; several processes may write to the same dataset at the same time.

    Args:
        dataset: The dataset, opened with `TokenDataset.create_or_open`.
        run_id: Name of the run, stored with every row.
        config: When to commit.

    Attributes:
        traffic: What its commits moved and cost so far.
    """

    def __init__(
        self, dataset: TokenDataset, run_id: str, config: CommitConfig | None = None
    ) -> None:
        self._dataset = dataset
        self._run_id = checked_name(run_id, "run id")
        self._config = config or CommitConfig()
        self._assembler = UnitAssembler()
        self._pending: list[CompletedUnit] = []
        self._pending_bytes = 0
        self._written: list[_Written] = []
        self._quarantined: list[CompletedUnit] = []
        self._waiting_clips = 0
        self._last_commit_s = time.monotonic()
        self._summary = CommitSummary()
        self.traffic = CommitTraffic()
        self._num_attempts = 0
        self._is_committing = False

    @property
    def summary(self) -> CommitSummary:
        """What has been committed so far."""
        return self._summary

    @property
    def num_waiting_clips(self) -> int:
        """Clips of complete units that no commit has made visible yet."""
        return self._waiting_clips

    @property
    def is_committing(self) -> bool:
        """Whether a commit is under way, for whoever looks on from another thread."""
        return self._is_committing

    def add(self, record: TokenizedClip | UnitEnd) -> CompletedUnit | None:
        """Takes one record; commits when the config says that it is time.

        Returns:
            The unit that this record made whole, if it did.

        Raises:
            PipelineError: The record contradicts others of its unit.
            DatasetError: Its rows do not fit the dataset, or a commit fails.
        """
        completed = self._assembler.add(record)
        if completed is not None:
            self._accept(completed)
        self.commit_if_due()
        return completed

    def commit_if_due(self) -> None:
        """Commits when the config says that it is time: to be called when records stay away.

        Raises:
            DatasetError: As `commit`.
        """
        if self._is_time():
            self.commit()

    def commit(self) -> CommitSummary:
        """Commits every complete unit that waits; returns what was committed so far.

        Raises:
            DatasetError: The store refuses, or other writers won every attempt.
        """
        began_s, num_before = time.monotonic(), self._num_attempts
        steps = (self._commit_clips, self._commit_quarantine)
        self._is_committing = True
        try:
            self._flush()
            is_empty = not self._written and not self._quarantined
            for step in steps:
                on_newest_state(self._dataset, step, self._config.attempts)
        finally:
            self._is_committing = False
        self._last_commit_s = time.monotonic()
        if not is_empty:
            self.traffic.commits_s.append(self._last_commit_s - began_s)
        self.traffic.num_retries += self._num_attempts - num_before - len(steps)
        return self._summary

    def close(self) -> CommitSummary:
        """The last commit of a run.

        Raises:
            PipelineError: Units are incomplete; everything complete was committed nevertheless.
            DatasetError: As `commit`.
        """
        summary = self.commit()
        incomplete = self._assembler.incomplete()
        if incomplete:
            shown = "\n".join(f"  {line}" for line in incomplete[:20])
            more = f"\n  … and {len(incomplete) - 20} more" if len(incomplete) > 20 else ""
            raise PipelineError(
                f"{len(incomplete)} videos did not arrive completely; none of their clips was "
                f"committed, run the same command again:\n{shown}{more}"
            )
        return summary

    def _accept(self, completed: CompletedUnit) -> None:
        if completed.quarantine is not None:
            self._quarantined.append(completed)
            return
        self._pending.append(completed)
        self._pending_bytes += completed.token_bytes
        self._waiting_clips += len(completed.clips)
        if self._pending_bytes >= self._config.target_file_bytes:
            self._flush()

    def _is_time(self) -> bool:
        if not self._waiting_clips and not self._quarantined:
            return False
        every_clips, every_s = self._config.every_clips, self._config.every_s
        if every_clips is not None and self._waiting_clips >= every_clips:
            return True
        return every_s is not None and time.monotonic() - self._last_commit_s >= every_s

    def _flush(self) -> None:
        """Writes the waiting units as one data file, still invisible."""
        if not self._pending:
            return
        rows = token_rows(self._pending, self._dataset.lineage, self._run_id)
        names = attribute_names(rows.schema)
        on_newest_state(
            self._dataset, lambda: self._dataset.add_attributes(names), self._config.attempts
        )
        videos = {done.unit.video_id: done.unit.fingerprint for done in self._pending}
        self._written.append(_Written(self._dataset.clips.write(rows), videos))
        self._pending, self._pending_bytes = [], 0

    def _commit_clips(self) -> None:
        self._num_attempts += 1
        clips = self._dataset.clips
        taken_down = self._dataset.taken_down_ids()
        arriving = {done.unit.video_id: done.unit.fingerprint for done in self._quarantined}
        for written in self._written:
            arriving |= written.videos
        known = clips.fingerprints(arriving)
        already = {video for video, state in known.items() if state == arriving[video]}
        outgoing = (known.keys() - already) | clips.fingerprints(taken_down).keys()
        self._drop(already | (arriving.keys() & set(taken_down.to_pylist())))
        self._written = [self._freshened(written) for written in self._written]
        files = [written.file for written in self._written]
        clips.swap(outgoing, files, {"sweettok.run_id": self._run_id})
        self._count_commit(len(outgoing))
        self._written, self._waiting_clips = [], 0

    def _drop(self, leaving: set[str]) -> None:
        """Leaves out videos that another writer has committed in the same state, or taken down."""
        # Nothing is taken over before all of it is done: the store may fail, and this comes again.
        written = [self._without(each, leaving) for each in self._written]
        self._written = [each for each in written if each is not None]
        self._quarantined = [u for u in self._quarantined if u.unit.video_id not in leaving]
        self._count_skipped(len(leaving))

    def _without(self, written: _Written, video_ids: set[str]) -> _Written | None:
        """The file again without the rows of `video_ids`; itself if it has none of them."""
        leaving = video_ids & written.videos.keys()
        if not leaving:
            return written
        videos = {video: s for video, s in written.videos.items() if video not in leaving}
        if not videos:
            return None
        clips = self._dataset.clips
        file = clips.write_without(written.file.path, pa.array(leaving, pa.string()))
        return _Written(file, videos)

    def _freshened(self, written: _Written) -> _Written:
        """The same rows in a file that no clean-up can take for abandoned."""
        if written.file.is_fresh:
            return written
        clips = self._dataset.clips
        file = clips.write_without(written.file.path, pa.array([], pa.string()))
        return _Written(file, written.videos)

    def _count_skipped(self, num_videos: int) -> None:
        self._summary = replace(self._summary, num_skipped=self._summary.num_skipped + num_videos)

    def _count_commit(self, num_replaced: int) -> None:
        num_videos = sum(len(written.videos) for written in self._written)
        num_clips = sum(written.file.num_rows for written in self._written)
        if not num_videos and not num_replaced:
            return
        self.traffic.num_bytes += sum(written.file.size_bytes for written in self._written)
        before = self._summary
        self._summary = replace(
            before,
            num_videos=before.num_videos + num_videos,
            num_clips=before.num_clips + num_clips,
            num_replaced=before.num_replaced + num_replaced,
            num_commits=before.num_commits + 1,
        )
        version = self._dataset.version
        logger.info("version %d: %d videos with %d clips", version, num_videos, num_clips)

    def _commit_quarantine(self) -> None:
        self._num_attempts += 1
        table, clips = self._dataset.quarantined, self._dataset.clips
        # Between the two commits others may have tokenized a video, or taken it down.
        tokenized = clips.fingerprints([done.unit.video_id for done in self._quarantined])
        settled = tokenized.keys() | set(self._dataset.taken_down_ids().to_pylist())
        arriving = [done for done in self._quarantined if done.unit.video_id not in settled]
        rows = quarantine_rows(arriving, self._run_id)
        files = [table.write(rows)] if arriving else []
        outgoing = self._stale_quarantine(done.unit.video_id for done in arriving)
        table.swap(outgoing, files, {"sweettok.run_id": self._run_id})
        self._summary = replace(
            self._summary, num_quarantined=self._summary.num_quarantined + len(arriving)
        )
        self._count_skipped(len(self._quarantined) - len(arriving))
        self._quarantined = []

    def _stale_quarantine(self, arriving: Iterable[str]) -> pa.Array:
        """Videos whose rows leave the quarantine: they come anew, or they have tokens now."""
        keys = self._dataset.quarantined.keys()
        stored = keys.filter(pc.not_equal(keys["reason"], QuarantineReason.TAKEN_DOWN.value))[
            "video_id"
        ].combine_chunks()
        tokenized = self._dataset.clips.keys_of(stored)["video_id"].to_pylist()
        leaving = pa.array([*arriving, *tokenized], pa.string())
        return stored.filter(pc.is_in(stored, value_set=leaving))
