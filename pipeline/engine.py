"""Runs the stages over a list of work units: on Ray Data, or in this process.

    units ─► decode tasks (CPU, any node) ─► encoder actors (GPU where there is one) ─► committer

Both engines call the same stage classes and feed the same committer. On Ray, pixels go from decode
tasks to encoders through the object store, token ids from encoders to one committer actor; neither
passes through the driver, which only watches.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pydantic
import ray
import ray.data
import ray.exceptions

from pipeline.cluster import check_room, has_gpu
from pipeline.dataset import CommitConfig, CommitSummary, Committer, TokenDataset
from pipeline.decoding.cutting import CutSettings
from pipeline.decoding.stage import DecodeStage
from pipeline.encoding import EncodeConfig, EncodeStage
from pipeline.errors import PipelineError
from pipeline.records import Clip, TokenizedClip, UnitEnd, WorkUnit
from pipeline.storage import StorageConfig
from pipeline.transport import records_to_table, table_to_records
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 5.0
MAX_DECODE_BLOCKS = 10_000  # Ray Data plans this many decode tasks without effort


class EngineConfig(StrictConfig):
    """How the work is spread over the cluster.

    Attributes:
        num_decode_tasks: Decode tasks at one time; null lets Ray Data use the free cores.
        num_cpus_per_decode_task: CPU cores that one decode task reserves.
        memory_bytes_per_decode_task: Memory that one decode task reserves, in bytes.
        no_progress_timeout_s: A run that finishes nothing for so long is stopped with an error.
    """

    num_decode_tasks: int | None = pydantic.Field(default=None, ge=1)
    num_cpus_per_decode_task: float = pydantic.Field(default=1, gt=0)
    memory_bytes_per_decode_task: int = pydantic.Field(default=512 * 2**20, ge=1)
    no_progress_timeout_s: float = pydantic.Field(default=1800, gt=0)


@dataclass(frozen=True)
class DecodeSpec:
    """Everything a decode task needs; small and picklable.

    Attributes:
        settings: What to cut from a file.
        storage: How to reach the files.
        table_bytes: Clips are handed on in tables of about this many bytes of pixels.
    """

    settings: CutSettings
    storage: StorageConfig
    table_bytes: int = 16 * 2**20

    def stage(self) -> DecodeStage:
        """The stage, not set up yet."""
        parts = self.settings
        return DecodeStage(
            parts.decode, parts.clips, parts.preprocess, parts.geometry, self.storage
        )


def run_in_process(
    units: Iterable[WorkUnit],
    decode: DecodeStage,
    encode: EncodeStage,
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
    records: Iterable[Clip | UnitEnd], encode: EncodeStage, batch_size: int
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


def decode_on_ray(
    units: Sequence[WorkUnit], decode: DecodeSpec, engine: EngineConfig
) -> ray.data.Dataset:
    """A lazy Ray dataset of clip and unit-end messages (see pipeline/transport.py)."""
    return _units_dataset(units).map_batches(
        functools.partial(_decode_units, decode),
        batch_format="pyarrow",
        batch_size=1,
        num_cpus=engine.num_cpus_per_decode_task,
        # Encoders reserve none: Ray Data fuses stages of equal demands, and decoding would then
        # happen inside the encoder's process, one after the other.
        memory=engine.memory_bytes_per_decode_task,
        compute=ray.data.TaskPoolStrategy(size=engine.num_decode_tasks),
    )


def run_on_ray(
    units: Sequence[WorkUnit],
    decode: DecodeSpec,
    encode: EncodeConfig,
    engine: EngineConfig,
    target: CommitTarget,
) -> EngineResult:
    """Runs the stages on the connected Ray cluster and commits what they give.

    Raises:
        PipelineError: A stage failed for another reason than one video's fault, or nothing
            finished for `engine.no_progress_timeout_s`.
    """
    num_gpus = encode.num_gpus_per_actor
    if num_gpus is None:
        num_gpus = 1.0 if has_gpu() else 0.0
    check_room(
        encode.num_actors * encode.num_cpus_per_actor + engine.num_cpus_per_decode_task,
        "lower encode.num_actors or encode.num_cpus_per_actor (fractions are fine)",
    )
    rows = decode_on_ray(units, decode, engine).map_batches(
        _Encoder,
        fn_constructor_args=(target, encode, num_gpus > 0),
        batch_format="pyarrow",
        batch_size=encode.batch_size,
        num_cpus=encode.num_cpus_per_actor,
        num_gpus=num_gpus,
        compute=ray.data.ActorPoolStrategy(size=encode.num_actors),
    )
    committer = ray.remote(_StreamCommitter).options(num_cpus=0, max_concurrency=2).remote(target)
    (stream,) = rows.streaming_split(1)
    try:
        return _watch(committer, committer.consume.remote(stream), len(units), engine)
    except ray.exceptions.RayError as error:
        raise as_pipeline_error(error) from error
    finally:
        ray.kill(committer)


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
    """What a run has done so far."""

    num_clips: int = 0
    num_units: int = 0
    num_quarantined: int = 0


@dataclass(frozen=True)
class EngineResult:
    """What a run on Ray gave.

    Attributes:
        committed: What was committed.
        steady_clips_per_s: Clips per second between the first and the last tokens that came out
            of the encoders: start-up and commit left out; 0 if all came at once.
    """

    committed: CommitSummary
    steady_clips_per_s: float


_STAGE_OF_THIS_PROCESS: dict[str, DecodeStage] = {}


def _decode_stage(spec: DecodeSpec) -> DecodeStage:
    """The stage of this worker process, kept between tasks with its decoding child."""
    key = repr(spec)
    if key not in _STAGE_OF_THIS_PROCESS:
        for stage in _STAGE_OF_THIS_PROCESS.values():
            stage.close()
        _STAGE_OF_THIS_PROCESS.clear()
        stage = spec.stage()
        stage.setup()
        _STAGE_OF_THIS_PROCESS[key] = stage
    return _STAGE_OF_THIS_PROCESS[key]


def _units_dataset(units: Sequence[WorkUnit]) -> ray.data.Dataset:
    size = -(-len(units) // MAX_DECODE_BLOCKS)
    groups = [units[start : start + size] for start in range(0, len(units), size)]
    return ray.data.from_arrow([records_to_table(group) for group in groups])


def _decode_units(spec: DecodeSpec, table: pa.Table) -> Iterator[pa.Table]:
    stage = _decode_stage(spec)
    waiting: list[Clip | UnitEnd] = []
    waiting_bytes = 0
    for unit in table_to_records(table):
        assert isinstance(unit, WorkUnit)
        for record in stage.process(unit):
            waiting.append(record)
            waiting_bytes += record.frames.nbytes if isinstance(record, Clip) else 0
            if waiting_bytes >= spec.table_bytes:
                yield records_to_table(waiting)
                waiting, waiting_bytes = [], 0
    if waiting:
        yield records_to_table(waiting)


class _Encoder:
    """The encode stage as a Ray Data actor: passes unit ends through."""

    def __init__(self, target: CommitTarget, config: EncodeConfig, use_gpu: bool) -> None:
        self._stage = EncodeStage(target.open().tokenizer_files(), config, use_gpu=use_gpu)
        self._stage.setup()

    def __call__(self, table: pa.Table) -> pa.Table:
        records = list(table_to_records(table))
        ends = [record for record in records if isinstance(record, UnitEnd)]
        clips = [record for record in records if isinstance(record, Clip)]
        return records_to_table([*self._stage.process(clips), *ends])


class _StreamCommitter:
    """Feeds the token stream to a committer, away from the driver; answers while it works."""

    def __init__(self, target: CommitTarget) -> None:
        self._committer = target.committer()
        self._num_clips = self._num_units = self._num_quarantined = 0

    def consume(self, stream: ray.data.DataIterator) -> EngineResult:
        first_s, num_first = None, 0
        last_s = 0.0
        for table in stream.iter_batches(batch_size=None, batch_format="pyarrow"):
            for record in table_to_records(table):
                assert isinstance(record, TokenizedClip | UnitEnd)
                self._count(record)
                self._committer.add(record)
            last_s = time.monotonic()
            if first_s is None and self._num_clips:
                first_s, num_first = last_s, self._num_clips
        duration_s = 0.0 if first_s is None else last_s - first_s
        rate = (self._num_clips - num_first) / duration_s if duration_s > 0 else 0.0
        return EngineResult(self._committer.close(), rate)

    def progress(self) -> Progress:
        return Progress(self._num_clips, self._num_units, self._num_quarantined)

    def _count(self, record: TokenizedClip | UnitEnd) -> None:
        if isinstance(record, TokenizedClip):
            self._num_clips += 1
        else:
            self._num_units += 1
            self._num_quarantined += record.quarantine is not None


def _watch(
    committer: Any, result: ray.ObjectRef, num_units: int, engine: EngineConfig
) -> EngineResult:
    last, changed_at = Progress(), time.monotonic()
    while True:
        ready, _ = ray.wait([result], timeout=PROGRESS_INTERVAL_S)
        if ready:
            return ray.get(result)
        progress = ray.get(committer.progress.remote())
        if progress != last:
            last, changed_at = progress, time.monotonic()
            logger.info(
                "%d of %d videos done, %d quarantined, %d clips tokenized",
                progress.num_units,
                num_units,
                progress.num_quarantined,
                progress.num_clips,
            )
        idle_s = time.monotonic() - changed_at
        if idle_s > engine.no_progress_timeout_s:
            raise PipelineError(
                f"nothing finished for {idle_s:.0f} s (engine.no_progress_timeout_s = "
                f"{engine.no_progress_timeout_s:g}); {last.num_units} of {num_units} videos were "
                "done. Check that the cluster has the CPUs and GPUs that the config asks for"
            )


def as_pipeline_error(error: BaseException) -> PipelineError:
    """What went wrong in a worker, without Ray's wrapping: our own error, or its last line."""
    while isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        error = error.cause
    if isinstance(error, PipelineError):
        return error
    lines = str(error).strip().splitlines() or [""]
    return PipelineError(f"{type(error).__name__}: {lines[-1]}")
