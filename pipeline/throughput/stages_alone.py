"""Decoding alone, encoding alone, and the best that two processes make of both: the yardsticks.

Each uses every core, as the pipeline does: cores that work at one time share caches and memory, and
what a clip costs one process on an idle machine is not what it costs there.
"""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple, TypeAlias

from pipeline.errors import PipelineError
from pipeline.records import UnitEnd, WorkUnit
from pipeline.throughput.tokens import write_tokens
from pipeline.throughput.workplace import Outcome, Workplace, decoded, tokenized

_FEW_UNITS = 16
_START_TIMEOUT_S = 600.0

Together: TypeAlias = Callable[[], float]
"""Waits until all processes are ready, in each of them; gives the moment."""


def decode_alone(place: Workplace) -> Outcome:
    """A process per core decodes its share of the videos and keeps nothing.

    Raises:
        PipelineError: One of them failed.
    """
    shares = _shares(place.units, _num_cores())
    outcome = _side_by_side([functools.partial(_decode, place, units) for units in shares])
    return replace(outcome, num_processes=len(shares))


def _decode(place: Workplace, units: Sequence[WorkUnit], together: Together) -> _Answer:
    decoder = place.decoder()
    decoder.setup()
    ready_s = together()
    records = (record for unit in units for record in decoder.process(unit))
    num_clips = sum(record.num_clips for record in records if isinstance(record, UnitEnd))
    return _Answer(num_clips, ready_s, time.monotonic())


def encode_alone(place: Workplace) -> Outcome:
    """A process per core encodes its share of the clips, which are in its memory, in full batches.

    On a GPU one process encodes all at once, so that batches overlap as they do for the calls of
    the pipeline.

    Raises:
        PipelineError: One of them failed.
    """
    num_processes = 1 if place.uses_gpu else _num_cores()
    outcome = _side_by_side(
        [
            functools.partial(_encode, place, number, num_processes)
            for number in range(num_processes)
        ]
    )
    outcome = replace(outcome, num_gpus=int(place.uses_gpu), num_processes=num_processes)
    return outcome if place.config.mode == "null_encoder" else _with_model_rate(outcome, place)


def _encode(place: Workplace, number: int, num_processes: int, together: Together) -> _Answer:
    decoder, encoder = place.decoder(), place.encoder()
    decoder.setup()
    first_clips = itertools.islice(decoded(decoder, place.units), place.config.encode_clips)
    clips = list(itertools.islice(first_clips, number, None, num_processes))
    decoder.close()
    encoder.setup()
    ready_s = together()
    num_at_once = len(clips) if place.uses_gpu else place.config.encode.batch_size
    tokens = list(tokenized(encoder, clips, max(1, num_at_once)))
    last_s = time.monotonic()
    encoder.close()
    write_tokens(place.directory / f"share{number}.parquet", tokens)
    return _Answer(len(tokens), ready_s, last_s)


def _with_model_rate(outcome: Outcome, place: Workplace) -> Outcome:
    from pipeline.throughput.model_rate import measure_model_rate

    config = place.config
    rate = measure_model_rate(config.tokenizer_directory, config.encode, use_gpu=place.uses_gpu)
    return replace(outcome, **asdict(rate))


def two_processes(place: Workplace) -> Outcome:
    """Two processes share the work by halves and write at the end, with nothing between them.

    Raises:
        PipelineError: One of them failed.
    """
    halves = enumerate(_shares(place.units, 2))
    return _side_by_side([functools.partial(_do_both, place, *half) for half in halves])


def _do_both(
    place: Workplace, number: int, units: Sequence[WorkUnit], together: Together
) -> _Answer:
    decoder, encoder = place.decoder(), place.encoder()
    decoder.setup()
    encoder.setup()
    ready_s = together()
    clips = decoded(decoder, units)
    tokens = list(tokenized(encoder, clips, place.config.encode.batch_size))
    last_s = time.monotonic()
    write_tokens(place.directory / f"share{number}.parquet", tokens)
    return _Answer(len(tokens), ready_s, last_s)


class _Answer(NamedTuple):
    """What a process of several did; times on the machine's monotonic clock."""

    num_clips: int
    ready_s: float
    last_s: float


def _side_by_side(works: Sequence[Callable[[Together], _Answer]]) -> Outcome:
    """Runs each work in a process of its own; all begin at one time."""
    context = multiprocessing.get_context("spawn")
    began_s = time.monotonic()
    barrier = context.Barrier(len(works))
    processes, receivers = [], []
    for work in works:
        ours, theirs = context.Pipe(duplex=False)
        processes.append(context.Process(target=_answer, args=(work, barrier, theirs)))
        processes[-1].start()
        theirs.close()
        receivers.append(ours)
    try:
        answers = [_Answer(*json.loads(ours.recv_bytes())) for ours in receivers]
    except EOFError:
        raise PipelineError("one of the processes failed; its message is above") from None
    for process in processes:
        process.join()
    return Outcome(
        sum(answer.num_clips for answer in answers),
        began_s,
        max(answer.ready_s for answer in answers),
        max(answer.last_s for answer in answers),
        time.monotonic(),
    )


def _answer(work: Callable[[Together], _Answer], barrier: Any, sender: Any) -> None:
    def together() -> float:
        barrier.wait(_START_TIMEOUT_S)
        return time.monotonic()

    try:
        answer = work(together)
    except BaseException:
        barrier.abort()  # the others would wait for it
        raise
    sender.send_bytes(json.dumps(answer).encode())


def _num_cores() -> int:
    return os.cpu_count() or 1


def _shares(units: Sequence[WorkUnit], num_shares: int) -> list[list[WorkUnit]]:
    """Whole videos dealt out; of few videos, to each share its part of every one."""
    if len(units) >= _FEW_UNITS:
        return [list(units[number::num_shares]) for number in range(num_shares)]
    return [
        [replace(unit, part_index=number, num_parts=num_shares) for unit in units]
        for number in range(num_shares)
    ]
