"""Runs the stages over a list of work units: on Ray Data, or in this process.

    units ─► decode tasks (CPU, any node) ─► encoder actors (GPU) ─► committer
    units ─► actors that decode and encode (where no GPU is) ─► committer

Both engines call the same stage classes and feed the same committer. On Ray, pixels go from decode
tasks to encoders through the object store, or stay in their process; token ids go to one committer
actor. Neither passes through the driver, which only watches.

What happens when something dies (what was committed is never touched by any of it):

* a decoder's process: that video is tried with the next decoder, then quarantined.
* a decode task's process: Ray Data repeats the task.
* an encoder: Ray Data starts it again and repeats its batch.
* a node: the same for everything that ran or lay there. These repetitions have no limit, since
  nodes come and go for months; what only repeats itself ends by `engine.no_progress_timeout_s`.
* the committer (it lives on the driver's node, and Ray Data is driven from it): the run goes on by
  itself with the videos that the dataset lacks, `engine.max_restarts` times.
* the driver or its node: the same command continues.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeAlias

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.actors import (
    CommitTarget,
    Progress,
    StreamCommitter,
    StreamResult,
    TokenFlow,
)
from pipeline.cluster import check_own_node
from pipeline.dataset import CommitSummary, Committer
from pipeline.decode_task import DecodeSpec, UnitDecoder
from pipeline.encode_config import ClipEncoder, EncodeConfig
from pipeline.engine_config import EngineConfig
from pipeline.errors import PipelineError
from pipeline.progress import PROGRESS_INTERVAL_S, RunProgress
from pipeline.ray_metrics import RayMetrics
from pipeline.ray_stages import check_stages_fit, decode_on_ray, tokens_on_ray
from pipeline.records import Clip, TokenizedClip, UnitEnd, WorkUnit
from pipeline.resuming import committed_by, unfinished_units
from pipeline.run_timeline import Moment
from pipeline.worker_errors import as_pipeline_error, is_loss, loss

__all__ = [
    "PROGRESS_INTERVAL_S",
    "CommitTarget",
    "DecodeSpec",
    "EngineConfig",
    "EngineResult",
    "decode_on_ray",
    "run_in_process",
    "run_on_ray",
]

logger = logging.getLogger(__name__)

_WATCH_INTERVAL_S = 1.0
_LAST_COMMIT_TIMEOUT_S = 300.0
_RESTART_PAUSE_S = 2.0


@dataclass(frozen=True)
class EngineResult:
    """What a run on Ray gave.

    Attributes:
        committed: What was committed.
        steady_clips_per_s: Clips per second between the first and the last tokens that came out
            of the encoders: start-up and commit left out; 0 if too little time lay between.
        flow: When the last wave's tokens came.
        timeline: What had gone through the stages by when, once there was a committer.
    """

    committed: CommitSummary
    steady_clips_per_s: float
    flow: TokenFlow = field(default_factory=TokenFlow)
    timeline: Sequence[Moment] = ()


class UnitSource(Protocol):
    """Many work units that become objects a few at a time."""

    def __len__(self) -> int:
        """How many units."""

    def slice(self, start: int, length: int) -> list[WorkUnit]:
        """The units from `start` on, at most `length` of them."""


Units: TypeAlias = Sequence[WorkUnit] | UnitSource


def run_in_process(
    units: Iterable[WorkUnit],
    decode: UnitDecoder,
    encode: ClipEncoder,
    committer: Committer,
    *,
    batch_size: int,
) -> CommitSummary:
    """Runs every stage in this process, without Ray; batches are filled across videos."""
    decode.setup()
    encode.setup()
    try:
        records = (record for unit in units for record in decode.process(unit))
        for record in _encode_stream(records, encode, batch_size):
            committer.add(record)
        return committer.close()
    finally:
        decode.close()
        encode.close()


def _encode_stream(
    records: Iterable[Clip | UnitEnd], encode: ClipEncoder, batch_size: int
) -> Iterator[TokenizedClip | UnitEnd]:
    batch: list[Clip] = []
    for record in records:
        if isinstance(record, UnitEnd):
            yield record
            continue
        batch.append(record)
        if len(batch) == batch_size:
            yield from encode.process(batch)
            batch = []
    yield from encode.process(batch)


def run_on_ray(
    units: Units,
    decode: DecodeSpec,
    encode: EncodeConfig,
    engine: EngineConfig,
    target: CommitTarget,
) -> EngineResult:
    """Runs the stages on the connected Ray cluster and commits what they give.

    Interrupted, it commits what is finished before it lets the interruption through.

    Args:
        units: What to work on; a few at a time become objects in this process.
        decode: What to cut, and how to reach the files.
        encode: The encoders.
        engine: How the work is spread, and when the run gives up.
        target: The dataset.

    Raises:
        PipelineError: A stage failed for another reason than one video's fault, nothing finished
            for `engine.no_progress_timeout_s`, too many videos were quarantined, or too much of
            the cluster was lost. What was finished before is committed.
    """
    check_stages_fit(decode, encode, engine)
    run = _Run(len(units), decode, encode, engine, target)
    try:
        for start in range(0, len(units), engine.units_per_wave):
            run.finish(_slice(units, start, engine.units_per_wave), num_before=start)
    finally:
        run.close()
    return run.result()


class _Run:
    """One run on Ray, wave by wave; a wave that is lost goes on from what the dataset has."""

    def __init__(
        self,
        num_units: int,
        decode: DecodeSpec,
        encode: EncodeConfig,
        engine: EngineConfig,
        target: CommitTarget,
    ) -> None:
        self._num_units = num_units
        self._decode = decode
        self._encode = encode
        self._engine = engine
        self._target = target
        self._limit = engine.quarantine_limit()
        self._committed = CommitSummary()
        self._flow = TokenFlow()
        self._was_lost = False
        self._progress = RunProgress(num_units)
        self._committer: Any = None  # serves all waves: it knows every row of the table

    def finish(self, wave: list[WorkUnit], num_before: int) -> None:
        """Brings the units of `wave` into the dataset, whatever is lost on the way."""
        stop = num_before + len(wave)
        num_failures = 0
        while wave:
            try:
                self._note(self._attempt(wave, stop - len(wave)))
                return
            except ray.exceptions.RayError as error:
                if not is_loss(error):
                    raise as_pipeline_error(error) from error
                what = loss(error)
            self._end_committer()
            self._progress.restart()
            check_own_node()
            self._was_lost = True
            left = unfinished_units(wave, self._target.open(), self._target.run_id)
            num_failures = 1 if len(left) < len(wave) else num_failures + 1
            wave = left
            self._go_on_or_give_up(what, num_failures, len(wave))

    def close(self) -> None:
        """Ends the committer, and with it what Ray Data still does for it; safe to call twice."""
        self._progress.close()
        self._end_committer()

    def _end_committer(self) -> None:
        committer, self._committer = self._committer, None
        if committer is not None:
            ray.kill(committer)

    def result(self) -> EngineResult:
        """What the run gave; after a loss, counted in the dataset itself."""
        committed = self._committed
        if self._was_lost:
            committed = committed_by(self._target.run_id, self._target.open(), self._num_units)
        moments = self._progress.timeline.moments
        return EngineResult(committed, self._flow.steady_clips_per_s, self._flow, moments)

    def _attempt(self, wave: list[WorkUnit], num_before: int) -> StreamResult:
        """Runs one wave in a Ray Data execution of its own."""
        committer = self._committer = self._committer or self._start_committer()
        try:
            tokens = tokens_on_ray(wave, self._decode, self._encode, self._engine, self._target)
            return self._watch(committer, committer.consume.remote(tokens), num_before)
        except (KeyboardInterrupt, SystemExit):
            logger.info("stopping: what is finished is committed first; once more stops at once")
            _commit_finished(committer)
            raise

    def _start_committer(self) -> Any:
        # Never restarted by Ray: its state is what the stream brought, and only the dataset knows
        # what of it was committed. On the driver's node, whose end is the end of the run anyway.
        driver_node = ray.get_runtime_context().get_node_id()
        return (
            ray.remote(StreamCommitter)
            .options(
                num_cpus=0,
                max_concurrency=3,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(driver_node, soft=True),
            )
            .remote(self._target, self._limit, RayMetrics)
        )

    def _watch(self, committer: Any, result: ray.ObjectRef, num_before: int) -> StreamResult:
        last, changed_at = Progress(), time.monotonic()
        while True:
            ready, _ = ray.wait([result], timeout=_WATCH_INTERVAL_S)
            if ready:
                return ray.get(result)
            progress = ray.get(committer.heartbeat.remote())
            self._progress.note(progress.totals)
            if progress != last:
                last, changed_at = progress, time.monotonic()
            idle_s = time.monotonic() - changed_at
            if idle_s > self._engine.no_progress_timeout_s:
                _commit_finished(committer)
                raise PipelineError(
                    f"nothing finished for {idle_s:.0f} s (engine.no_progress_timeout_s = "
                    f"{self._engine.no_progress_timeout_s:g}); {num_before + last.num_units} of "
                    f"{self._num_units} videos were done. Check that the cluster has the CPUs and "
                    "GPUs that the config asks for"
                )

    def _note(self, result: StreamResult) -> None:
        self._limit = result.limit
        self._committed = _total(self._committed, result.committed)
        self._flow = result.flow
        self._progress.note(result.totals)

    def _go_on_or_give_up(self, what: str, num_failures: int, num_left: int) -> None:
        if num_failures > self._engine.max_restarts:
            raise PipelineError(
                f"{what}. The run was lost {num_failures} times in a row without one more finished "
                f"video (engine.max_restarts = {self._engine.max_restarts}); {num_left} videos are "
                "left. See that the cluster's nodes stay up and have enough memory, then run the "
                "same command again: it continues"
            )
        logger.warning("%s; going on with the %d videos that are not committed", what, num_left)
        time.sleep(_RESTART_PAUSE_S)


def _slice(units: Units, start: int, length: int) -> list[WorkUnit]:
    if isinstance(units, Sequence):
        return list(units[start : start + length])
    return units.slice(start, length)


def _total(first: CommitSummary, second: CommitSummary) -> CommitSummary:
    names = [field.name for field in fields(CommitSummary)]
    return CommitSummary(**{name: getattr(first, name) + getattr(second, name) for name in names})


def _commit_finished(committer: Any) -> None:
    """Has the committer commit what is complete; says so if that fails."""
    try:
        ray.get(committer.finish.remote(), timeout=_LAST_COMMIT_TIMEOUT_S)
    except ray.exceptions.RayError as error:
        logger.warning("the last commit failed (%s); its videos are done again", loss(error))
