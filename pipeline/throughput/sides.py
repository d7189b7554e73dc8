"""Runs one side of the benchmark in a process of its own, watched from outside."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import multiprocessing
import os
import time
from dataclasses import dataclass, field
from typing import Any

from pipeline.cluster import WORKER_ENVIRONMENT
from pipeline.errors import PipelineError
from pipeline.throughput.clocks import WorkLog, read_work_logs
from pipeline.throughput.config import SideName
from pipeline.throughput.gpu_sampler import GpuRecord, GpuSampler
from pipeline.throughput.process_tree import TreeRecord, TreeSampler
from pipeline.throughput.workplace import Outcome, Workplace
from sweettok.errors import SweetTokError

# Where each side's function is: a process imports no more than its side needs.
_FUNCTIONS: dict[SideName, tuple[str, str]] = {
    "decode": ("stages_alone", "decode_alone"),
    "encode": ("stages_alone", "encode_alone"),
    "two_processes": ("stages_alone", "two_processes"),
    "pipeline": ("whole_pipeline", "whole_pipeline"),
    "serial": ("baselines", "serial_script"),
    "textbook": ("baselines", "textbook_pipeline"),
    "textbook_squeezed": ("baselines", "squeezed_textbook_pipeline"),
}
_LAST_LOOK_S = 0.3


@dataclass(frozen=True)
class SideRun:
    """Everything known of one run of one side.

    Attributes:
        side: Which.
        started_s: When its process was started, on the machine's monotonic clock.
        outcome: What it says of itself.
        tree: Processor time and memory of all its processes.
        logs: When its stages worked.
        gpus: How busy the machine's GPUs were.
    """

    side: SideName
    started_s: float
    outcome: Outcome
    tree: TreeRecord
    logs: tuple[WorkLog, ...]
    gpus: GpuRecord = field(default_factory=GpuRecord)


def run_side(side: SideName, place: Workplace) -> SideRun:
    """Runs a side to its end.

    Raises:
        PipelineError: It failed, or cannot do what the config asks for.
    """
    place.directory.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, side, place))
    started_s = time.monotonic()
    # Read when torch is loaded: waiting threads spin as briefly on every side (LOG.md).
    os.environ.update(WORKER_ENVIRONMENT)
    process.start()
    theirs.close()
    assert process.pid is not None
    sampler, gpu_sampler = TreeSampler(process.pid), GpuSampler()
    try:
        answer: dict[str, Any] = json.loads(ours.recv_bytes())
        time.sleep(_LAST_LOOK_S)
    except EOFError:
        raise PipelineError(f"{side}: its process ended early; its message is above") from None
    finally:
        tree, gpus = sampler.stop(), gpu_sampler.stop()
        ours.close()  # it may end now
        process.join()
    if "error" in answer:
        raise PipelineError(f"{side}: {answer['error']}")
    logs = tuple(read_work_logs(place.clock_directory))
    return SideRun(side, started_s, Outcome(**answer), tree, logs, gpus)


def _answer(connection: Any, side: SideName, place: Workplace) -> None:
    logging.basicConfig(level=logging.WARNING)
    module, function = _FUNCTIONS[side]
    work = getattr(importlib.import_module(f"pipeline.throughput.{module}"), function)
    try:
        answer = dataclasses.asdict(work(place))
    except (PipelineError, SweetTokError) as error:
        answer = {"error": str(error)}
    connection.send_bytes(json.dumps(answer).encode())
    try:
        connection.recv_bytes()  # stays until it has been looked at for the last time
    except EOFError:
        return
