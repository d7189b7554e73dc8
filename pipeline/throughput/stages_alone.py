"""Decoding alone, encoding alone, and the best that two processes make of both: the yardsticks."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from dataclasses import replace
from typing import Any

from pipeline.errors import PipelineError
from pipeline.records import UnitEnd, WorkUnit
from pipeline.throughput.tokens import write_tokens
from pipeline.throughput.workplace import Outcome, Workplace, decoded, tokenized

_NUM_PROCESSES = 2
_FEW_UNITS = 16
_START_TIMEOUT_S = 600.0


def decode_alone(place: Workplace) -> Outcome:
    """One process decodes everything and keeps nothing."""
    units = place.units
    began_s = time.monotonic()
    decoder = place.decoder()
    decoder.setup()
    ready_s = time.monotonic()
    records = (record for unit in units for record in decoder.process(unit))
    num_clips = sum(record.num_clips for record in records if isinstance(record, UnitEnd))
    last_s = time.monotonic()
    decoder.close()
    return Outcome(num_clips, began_s, ready_s, last_s, last_s)


def encode_alone(place: Workplace) -> Outcome:
    """One process encodes clips that are in its memory, in full batches."""
    decoder, encoder = place.decoder(), place.encoder()
    began_s = time.monotonic()
    decoder.setup()
    clips = list(itertools.islice(decoded(decoder, place.units), place.config.encode_clips))
    decoder.close()
    encoder.setup()
    ready_s = time.monotonic()
    tokens = list(tokenized(encoder, clips, place.config.encode.batch_size))
    last_s = time.monotonic()
    encoder.close()
    write_tokens(place.tokens_path, tokens)
    return Outcome(len(tokens), began_s, ready_s, last_s, last_s)


def two_processes(place: Workplace) -> Outcome:
    """Two processes share the work by halves and write at the end, with nothing between them.

    Raises:
        PipelineError: One of them failed.
    """
    context = multiprocessing.get_context("spawn")
    began_s = time.monotonic()
    barrier = context.Barrier(_NUM_PROCESSES)
    halves = _halves(place.units)
    pairs = [context.Pipe(duplex=False) for _ in halves]
    processes = [
        context.Process(target=_work_on_half, args=(place, number, half, barrier, sender))
        for number, (half, (_, sender)) in enumerate(zip(halves, pairs, strict=True))
    ]
    for process, (_, sender) in zip(processes, pairs, strict=True):
        process.start()
        sender.close()
    try:
        answers = [[float(text) for text in ours.recv_bytes().split()] for ours, _ in pairs]
    except EOFError:
        raise PipelineError("one of the two processes failed; its message is above") from None
    for process in processes:
        process.join()
    counts, ready_s, last_s = zip(*answers, strict=True)
    return Outcome(int(sum(counts)), began_s, max(ready_s), max(last_s), time.monotonic())


def _work_on_half(
    place: Workplace, number: int, units: list[WorkUnit], barrier: Any, sender: Any
) -> None:
    decoder, encoder = place.decoder(), place.encoder()
    decoder.setup()
    encoder.setup()
    barrier.wait(_START_TIMEOUT_S)
    ready_s = time.monotonic()
    clips = decoded(decoder, units)
    tokens = list(tokenized(encoder, clips, place.config.encode.batch_size))
    last_s = time.monotonic()
    write_tokens(place.directory / f"half{number}.parquet", tokens)
    sender.send_bytes(f"{len(tokens)} {ready_s} {last_s}".encode())


def _halves(units: list[WorkUnit]) -> list[list[WorkUnit]]:
    """Whole videos dealt out, or of few videos to each process its half of every one."""
    if len(units) >= _FEW_UNITS:
        return [units[number::_NUM_PROCESSES] for number in range(_NUM_PROCESSES)]
    return [
        [replace(unit, part_index=number, num_parts=_NUM_PROCESSES) for unit in units]
        for number in range(_NUM_PROCESSES)
    ]
