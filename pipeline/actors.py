"""The engine's actors: the encoder and the committer.

Thin shells around the encode stage and the committer, which know nothing of the engine; nothing
here imports Ray either.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.dataset import CommitConfig, CommitSummary, Committer, TokenDataset
from pipeline.encoding import EncodeConfig, EncodeStage
from pipeline.quarantine_limit import QuarantineLimit
from pipeline.records import Clip, TokenizedClip, UnitEnd
from pipeline.storage import StorageConfig
from pipeline.transport import records_to_table, table_to_records

if TYPE_CHECKING:
    import ray.data


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

    def committer(self) -> Committer:
        """A committer of this run."""
        return Committer(self.open(), self.run_id, self.commit)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        num_clips: Clips that this stream brought.
        num_units: Videos whose fate this stream told.
        num_quarantined: Videos of the whole run that gave no clip.
    """

    num_clips: int = 0
    num_units: int = 0
    num_quarantined: int = 0


@dataclass(frozen=True)
class StreamResult:
    """What a whole stream of tokens gave.

    Attributes:
        committed: What was committed.
        steady_clips_per_s: Clips per second between the first and the last tokens that came out
            of the encoders: start-up and commit left out; 0 if all came at once.
        limit: The fates of all videos so far.
    """

    committed: CommitSummary
    steady_clips_per_s: float
    limit: QuarantineLimit


class Encoder:
    """The encode stage as an actor: turns clips into tokens, passes unit ends through."""

    def __init__(self, target: CommitTarget, config: EncodeConfig, use_gpu: bool) -> None:
        self._stage = EncodeStage(target.open().tokenizer_files(), config, use_gpu=use_gpu)
        self._stage.setup()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Takes one batch of messages."""
        records = list(table_to_records(table))
        ends = [record for record in records if isinstance(record, UnitEnd)]
        clips = [record for record in records if isinstance(record, Clip)]
        return records_to_table([*self._stage.process(clips), *ends])


class StreamCommitter:
    """Feeds the token stream to a committer, away from the driver; answers while it works.

    Args:
        target: Where to commit.
        limit: The fates of the run's earlier videos, and how many may be quarantined.
    """

    def __init__(self, target: CommitTarget, limit: QuarantineLimit) -> None:
        self._committer = target.committer()
        self._limit = limit
        self._num_clips = self._num_units = 0
        self._is_finished = False
        self._lock = threading.Lock()  # `consume` and `finish` run in threads of their own

    def consume(self, stream: ray.data.DataIterator) -> StreamResult:
        """Commits the whole stream; however it ends, what is complete is committed.

        Raises:
            PipelineError: Too many videos are quarantined, or a commit fails.
        """
        first_s, num_first = None, 0
        last_s = 0.0
        try:
            for table in stream.iter_batches(batch_size=None, batch_format="pyarrow"):
                self._take(table)
                last_s = time.monotonic()
                if first_s is None and self._num_clips:
                    first_s, num_first = last_s, self._num_clips
        finally:
            self.finish()
        duration_s = 0.0 if first_s is None else last_s - first_s
        rate = (self._num_clips - num_first) / duration_s if duration_s > 0 else 0.0
        return StreamResult(self._committer.close(), rate, self._limit)

    def finish(self) -> None:
        """Commits what is complete and takes nothing more."""
        with self._lock:
            if not self._is_finished:
                self._is_finished = True
                self._committer.commit()

    def heartbeat(self) -> Progress:
        """Commits what is due although nothing arrives; says how far the stream is."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._is_finished:
                    self._committer.commit_if_due()
            finally:
                self._lock.release()
        return Progress(self._num_clips, self._num_units, self._limit.num_quarantined)

    def _take(self, table: pa.Table) -> None:
        with self._lock:
            for record in () if self._is_finished else table_to_records(table):
                assert isinstance(record, TokenizedClip | UnitEnd)
                self._num_clips += isinstance(record, TokenizedClip)
                completed = self._committer.add(record)
                if completed is not None:
                    self._num_units += 1
                    self._limit.count(completed)
                    self._limit.check()
