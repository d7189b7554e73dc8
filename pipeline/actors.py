"""The engine's actors: the encoder and the committer.

Thin shells around the encode stage and the committer, which know nothing of the engine; nothing
here imports Ray either. Nor torch: the committer loads this module too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.dataset import CommitConfig, CommitSummary, Committer, TokenDataset
from pipeline.encode_config import EncodeConfig
from pipeline.quarantine_limit import QuarantineLimit
from pipeline.records import Clip, TokenizedClip, UnitEnd
from pipeline.run_totals import BusyClock, RunObserver, RunTally, RunTotals
from pipeline.stage_queues import QueueProbe, StageQueue, StageQueues
from pipeline.storage import StorageConfig
from pipeline.transport import records_to_table, table_to_records

if TYPE_CHECKING:
    import ray.data


_SHORTEST_STEADY_S = 0.5  # what arrives within less tells of one batch, not of a rate


@dataclass(frozen=True)
class CommitTarget:
    """Where a run writes: enough to open the dataset in another process."""

    dataset_uri: str
    storage: StorageConfig
    run_id: str
    commit: CommitConfig

    def open(self) -> TokenDataset:
        """The dataset as it is now."""
        return TokenDataset.open(self.dataset_uri, storage=self.storage)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        num_clips: Clips that this stream brought.
        num_units: Videos whose fate this stream told.
        num_quarantined: Videos of the whole run that gave no clip.
        totals: What went through this committer in all streams.
        queues: What waits before each stage, and what is under way.
    """

    num_clips: int = 0
    num_units: int = 0
    num_quarantined: int = 0
    totals: RunTotals = field(default_factory=RunTotals, compare=False)
    queues: StageQueues = field(default_factory=StageQueues, compare=False)


@dataclass(frozen=True)
class TokenFlow:
    """When the tokens of a stream reached the committer; times on its machine's monotonic clock.

    Attributes:
        num_clips: Clips that came.
        num_first: Clips that came with the first tokens.
        first_s, last_s: When the first and the last tokens came.
        busy_s: Seconds in which the committer was at work: assembling, writing, committing.
    """

    num_clips: int = 0
    num_first: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    busy_s: float = 0.0

    @property
    def steady_clips_per_s(self) -> float:
        """Clips per second after the first tokens: start-up left out; 0 if that was too short."""
        duration_s = self.last_s - self.first_s
        if duration_s < _SHORTEST_STEADY_S:
            return 0.0
        return (self.num_clips - self.num_first) / duration_s


@dataclass(frozen=True)
class StreamResult:
    """What a whole stream of tokens gave.

    Attributes:
        committed: What was committed.
        flow: When the tokens came.
        limit: The fates of all videos so far.
        totals: What went through this committer in all streams.
    """

    committed: CommitSummary
    flow: TokenFlow
    limit: QuarantineLimit
    totals: RunTotals


class Encoder:
    """The encode stage as an actor: turns clips into tokens, passes unit ends through."""

    def __init__(self, target: CommitTarget, config: EncodeConfig, use_gpu: bool) -> None:
        self._stage = config.stage(target.open().tokenizer_files(), use_gpu=use_gpu)
        self._stage.setup()
        self._clock = BusyClock()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Takes messages of any kinds; several threads may call at one time."""
        records = list(table_to_records(table))
        ends = [record for record in records if isinstance(record, UnitEnd)]
        clips = [record for record in records if isinstance(record, Clip)]
        self._clock.start()
        tokens = self._stage.process(clips)
        spent_s = self._clock.stop() / max(len(tokens), 1)
        return records_to_table([*(replace(clip, encode_s=spent_s) for clip in tokens), *ends])


class StreamCommitter:
    """Feeds streams of tokens to a committer, away from the driver; answers while it works.

    Ray Data is driven from here too, for it runs where a stream is read.

    Args:
        target: Where to commit.
        limit: The fates of the run's earlier videos, and how many may be quarantined.
        observer: Makes, with the dataset's URI, who is told the counts at every heartbeat.
    """

    def __init__(
        self,
        target: CommitTarget,
        limit: QuarantineLimit,
        observer: Callable[[str], RunObserver] | None = None,
    ) -> None:
        self._target = target
        self._observer = observer and observer(target.dataset_uri)
        self._tally = RunTally()
        self._dataset = target.open()  # what it knows of the table serves all streams
        self._limit = limit
        self._lock = threading.Lock()  # `consume` and `finish` run in threads of their own
        self._telling = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._committer = Committer(self._dataset, self._target.run_id, self._target.commit)
        self._num_clips = self._num_units = 0
        self._flow = TokenFlow()
        self._is_finished = False

    def consume(self, stream: ray.data.Dataset) -> StreamResult:
        """Commits a whole stream; however it ends, what is complete is committed.

        To be called again for the next stream.

        Raises:
            PipelineError: Too many videos are quarantined, or a commit fails.
        """
        with self._lock:
            self._begin()
        try:
            for table in stream.iter_batches(batch_size=None, batch_format="pyarrow"):
                self._note_arrival(table)
        finally:
            self.finish()
        began_s = time.monotonic()
        committed = self._committer.close()
        self._count_busy(began_s)
        return StreamResult(committed, self._flow, self._limit, self._tell())

    def finish(self) -> None:
        """Commits what is complete and takes nothing more."""
        with self._lock:
            if not self._is_finished:
                self._is_finished = True
                began_s = time.monotonic()
                self._committer.commit()
                self._count_busy(began_s)

    def heartbeat(self) -> Progress:
        """Commits what is due although nothing arrives; says how far the stream is."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._is_finished:
                    self._committer.commit_if_due()
            finally:
                self._lock.release()
        counts = (self._num_clips, self._num_units, self._limit.num_quarantined)
        return Progress(*counts, self._tell(), self._queues())

    def _tell(self) -> RunTotals:
        """The counts so far, of which the observer is told as well."""
        with self._telling:
            commits_s = self._tally.note_commits(self._committer.traffic)
            totals = self._tally.totals()
            if self._observer is not None:
                self._observer.note(totals, commits_s, self._queues())
            return totals

    def _queues(self) -> StageQueues:
        committer = self._committer
        waiting = StageQueue(committer.num_waiting_clips, int(committer.is_committing))
        return replace(QueueProbe.latest, commit=waiting)

    def _note_arrival(self, table: pa.Table) -> None:
        began_s = time.monotonic()
        self._take(table)
        self._count_busy(began_s)
        flow = replace(self._flow, num_clips=self._num_clips, last_s=time.monotonic())
        if not self._flow.num_clips:
            flow = replace(flow, num_first=flow.num_clips, first_s=flow.last_s)
        self._flow = flow

    def _count_busy(self, began_s: float) -> None:
        busy_s = self._flow.busy_s + time.monotonic() - began_s
        self._flow = replace(self._flow, busy_s=busy_s)

    def _take(self, table: pa.Table) -> None:
        with self._lock:
            for record in () if self._is_finished else table_to_records(table):
                assert isinstance(record, TokenizedClip | UnitEnd)
                self._num_clips += isinstance(record, TokenizedClip)
                completed = self._committer.add(record)
                self._tally.count(record, completed)
                if completed is not None:
                    self._num_units += 1
                    self._limit.count(completed)
                    self._limit.check()
