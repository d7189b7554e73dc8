"""The stages as lazy Ray datasets: which processes there are, and what passes between them.

Where encoders have a GPU, decode tasks on any node feed them through the object store. Where they
have none, an encoder of its own would only take cores from decoding: the processes that decode
encode as well, and pixels never leave them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import pyarrow as pa
import ray
import ray.data

from pipeline.actors import CommitTarget, Encoder
from pipeline.cluster import check_room, has_gpu, resources
from pipeline.decode_encode import DecodingEncoder
from pipeline.decode_task import DecodeSpec, decode_units
from pipeline.encode_config import EncodeConfig
from pipeline.engine_config import EngineConfig
from pipeline.records import WorkUnit
from pipeline.stage_queues import QueueProbe
from pipeline.transport import records_to_table
from pipeline.unit_parts import split_units

MAX_DECODE_BLOCKS = 10_000  # Ray Data plans this many decode tasks without effort
BATCHES_PER_CALL = 4  # so many full batches for an encoder at one time, where there is enough work
_TOKEN_BLOCK_BYTES = 2**12  # less than what `DecodingEncoder` gives at one time: it goes on at once
_MANY_BLOCKS_PER_ACTOR = 4
# Ray Data takes hundredths of a second of a core for every task, as much as a short video does.
_TASKS_PER_PROCESS = 32  # enough that all end together
_MAX_UNITS_PER_TASK = 64
_BYTES_PER_TASK = 64 * 2**20  # of videos: what is done again if its process is lost
# A process pauses when so many of its blocks wait to be noticed, which takes Ray Data up to half a
# second each: its own limit, two, cost a decoding encoder a fifth of its time.
_PIXEL_BLOCKS_AHEAD = 4
_TOKEN_BLOCKS_AHEAD = 64


def check_stages_fit(decode: DecodeSpec, encode: EncodeConfig, engine: EngineConfig) -> None:
    """Checks that the connected cluster has room for one process of every stage.

    Only warns on a running cluster, which may grow by itself.

    Raises:
        PipelineError: The embedded Ray has too few CPUs or GPUs, or the settings exclude each
            other.
    """
    num_gpus = encode.num_gpus(has_gpu=has_gpu())
    remedy = "lower engine.num_cpus_per_decode_task (fractions are fine)"
    if not encode.is_beside_decoding(num_gpus):
        remedy = "lower encode.num_actors or encode.num_cpus_per_actor (fractions are fine)"
    check_room(encode.num_own_cpus(num_gpus) + engine.num_cpus_per_decode_task, remedy)
    check_room(
        encode.num_actors * num_gpus + decode.settings.decode.num_gpus,
        "lower encode.num_actors or encode.num_gpus_per_actor (fractions leave room to decode)",
        resource="GPU",
    )


def tokens_on_ray(
    units: Sequence[WorkUnit],
    decode: DecodeSpec,
    encode: EncodeConfig,
    engine: EngineConfig,
    target: CommitTarget,
) -> ray.data.Dataset:
    """A lazy Ray dataset of token and unit-end messages (see pipeline/transport.py)."""
    num_tasks = engine.num_decode_tasks or _room(engine)
    parts = split_units(units, decode.settings.decode.part_bytes, num_tasks)
    num_gpus = encode.num_gpus(has_gpu=has_gpu())
    if encode.is_beside_decoding(num_gpus):
        return _decoded_and_encoded(parts, decode, encode, engine, target, num_tasks)
    num_calls = encode.num_concurrent_calls(use_gpu=num_gpus > 0)
    together = units_per_task(parts, num_tasks)
    return decode_on_ray(parts, decode, engine, num_together=together).map_batches(
        Encoder,
        fn_constructor_args=(target, encode, num_gpus > 0),
        batch_format="pyarrow",
        batch_size=BATCHES_PER_CALL * encode.batch_size,
        num_cpus=encode.num_cpus_per_actor,
        num_gpus=num_gpus,
        compute=ray.data.ActorPoolStrategy(
            size=encode.num_actors,
            max_concurrent_calls_per_actor=num_calls,
            enable_true_multi_threading=num_calls > 1,
        ),
    )


def _decoded_and_encoded(
    parts: Sequence[WorkUnit],
    decode: DecodeSpec,
    encode: EncodeConfig,
    engine: EngineConfig,
    target: CommitTarget,
    num_tasks: int,
) -> ray.data.Dataset:
    num_cpus = engine.num_cpus_per_decode_task
    num_actors = max(1, min(num_tasks, len(parts)))
    tables = _unit_tables(parts, units_per_task(parts, num_actors))
    # The second block of an actor waits beside the first, lest it pause between them. Of few
    # blocks, it would wait for an actor that is busy while another has not started yet.
    in_line = 1 if len(tables) < _MANY_BLOCKS_PER_ACTOR * num_actors else 2
    own = encode.model_copy(update={"num_cpus_per_actor": num_cpus})
    with ray.data.DataContext.current(_execution_context(_TOKEN_BLOCK_BYTES, _TOKEN_BLOCKS_AHEAD)):
        return _as_dataset(tables).map_batches(
            DecodingEncoder,
            fn_constructor_args=(target, decode, own),
            batch_format="pyarrow",
            batch_size=None,
            num_cpus=num_cpus,
            num_gpus=decode.settings.decode.num_gpus or None,
            memory=engine.memory_bytes_per_decode_task,
            compute=ray.data.ActorPoolStrategy(
                size=num_actors, max_tasks_in_flight_per_actor=in_line
            ),
        )


def decode_on_ray(
    units: Sequence[WorkUnit],
    decode: DecodeSpec,
    engine: EngineConfig,
    *,
    num_together: int = 1,
) -> ray.data.Dataset:
    """A lazy Ray dataset of clip and unit-end messages (see pipeline/transport.py).

    A task works on `num_together` of the units.
    """
    tables = _unit_tables(units, num_together)
    with ray.data.DataContext.current(_execution_context(decode.block_bytes, _PIXEL_BLOCKS_AHEAD)):
        return _as_dataset(tables).map_batches(
            functools.partial(decode_units, decode),
            batch_format="pyarrow",
            batch_size=None,
            num_cpus=engine.num_cpus_per_decode_task,
            num_gpus=decode.settings.decode.num_gpus or None,
            # Encoders reserve none: Ray Data fuses stages of equal demands, and decoding would
            # then happen inside the encoder's process, one after the other.
            memory=engine.memory_bytes_per_decode_task,
            compute=ray.data.TaskPoolStrategy(size=engine.num_decode_tasks),
        )


def units_per_task(units: Sequence[WorkUnit], num_processes: int) -> int:
    """How many videos, or parts of them, a task works on: several if they are many and short.

    Args:
        units: All of them.
        num_processes: How many tasks work at one time.
    """
    num_bytes = sum(unit.size_bytes / unit.num_parts for unit in units)
    if not num_bytes:  # nobody knows how long they are
        return 1
    even = len(units) // (_TASKS_PER_PROCESS * max(1, num_processes))
    short = int(_BYTES_PER_TASK * len(units) / num_bytes)
    return max(1, min(even, short, _MAX_UNITS_PER_TASK))


def _room(engine: EngineConfig) -> int:
    return math.floor(resources().get("CPU", 0) / engine.num_cpus_per_decode_task + 1e-9)


def _unit_tables(units: Sequence[WorkUnit], num_together: int) -> list[pa.Table]:
    """Dealt out like cards: the parts of a long video go to different processes."""
    num_blocks = min(-(-len(units) // num_together), MAX_DECODE_BLOCKS)
    return [records_to_table(units[first::num_blocks]) for first in range(num_blocks)]


def _as_dataset(tables: list[pa.Table]) -> ray.data.Dataset:
    # `from_arrow` would start a task, and first a worker, for every table to count its rows.
    return ray.data.from_blocks(tables)


def _execution_context(block_bytes: int, blocks_ahead: int) -> ray.data.DataContext:
    """How Ray Data executes a run; what the caller's process has set otherwise stays."""
    context = ray.data.DataContext.get_current().copy()
    # What a decode task yields is a block at once. Ray Data would gather 128 MiB: encoders would
    # wait for hundreds of clips, and the task would hold them twice.
    context.target_max_block_size = block_bytes
    context._max_num_blocks_in_streaming_gen_buffer = blocks_ahead
    context.memory_usage_poll_interval_s = None  # a thread per task, for a figure nobody reads
    context.custom_execution_callback_classes = [QueueProbe]
    return context
