"""Processor time and memory of a process and its descendants, sampled from outside meanwhile.

A process that ends keeps the last values that were seen of it: what it did after that is lost, at
most one interval. Memory is proportional (PSS): a page that several processes share, such as those
of the object store, counts once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import psutil

_INTERVAL_S = 0.1
_FAMILY_INTERVAL_S = 0.5
_MEMORY_INTERVAL_S = 0.5
# Proportional memory takes the kernel milliseconds per process: it is asked for only when a cheap
# estimate has grown by more than this.
_GROWTH = 1.02

SERVICES = "Ray's services"
_ROOT = "main process"
# What stands in a command line, and what such a process is called here; the first match counts.
_KINDS = (
    ("pipeline.decoding.child", "decoding child"),
    ("multiprocessing.spawn", "helper process"),
    ("StreamCommitter", "committer"),
    ("DecodingEncoder", "decoding encoder"),
    ("Encoder", "encoder"),
    ("decode_units", "decode task"),
    ("ReadVideo", "read task"),
    ("Write", "write task"),
    ("DashboardAgent", SERVICES),
    ("RuntimeEnvAgent", SERVICES),
    ("ray::IDLE", "idle worker"),
    ("ray::", "other worker"),
    ("default_worker.py", "idle worker"),
    ("gcs_server", SERVICES),
    ("raylet", SERVICES),
    ("dashboard", SERVICES),
    ("ray/_private", SERVICES),
)
_TRANSIENT = ("idle worker", "other")


@dataclass
class ProcessRecord:
    """One process over time.

    Attributes:
        pid, parent_pid: Its id, and that of the process that started it.
        kind: What it is, in words for people.
        times_s: When it was looked at, on the monotonic clock.
        cpu_s: Processor seconds that it had used then, user and system.
        peak_pss_bytes, peak_private_bytes: Its largest memory, shared pages by share or left out.
    """

    pid: int
    parent_pid: int
    kind: str
    times_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_pss_bytes: int = 0
    peak_private_bytes: int = 0

    def cpu_between(self, first_s: float, last_s: float) -> float:
        """Processor seconds used between two moments; before the first look, none."""
        first, last = np.interp([first_s, last_s], self.times_s, self.cpu_s, left=0.0)
        return float(last - first)


@dataclass
class TreeRecord:
    """All processes that were seen.

    Attributes:
        processes: One record each.
        peak_pss_bytes: Largest sum of the memory of all of them at one time.
        peak_private_bytes: The same without any shared page.
        peak_kinds_bytes: By kind, at the moment of the largest sum.
    """

    processes: list[ProcessRecord] = field(default_factory=list)
    peak_pss_bytes: int = 0
    peak_private_bytes: int = 0
    peak_kinds_bytes: dict[str, int] = field(default_factory=dict)

    def family(self, pid: int) -> list[ProcessRecord]:
        """A process and those that it started, directly or not."""
        known = {pid}
        for record in self.processes:  # parents were seen before their children
            if record.parent_pid in known:
                known.add(record.pid)
        return [record for record in self.processes if record.pid in known]

    def cpu_by_kind(self, first_s: float, last_s: float) -> dict[str, float]:
        """Processor seconds of each kind between two moments."""
        found: dict[str, float] = {}
        for record in self.processes:
            spent_s = record.cpu_between(first_s, last_s)
            found[record.kind] = found.get(record.kind, 0.0) + spent_s
        return found


class TreeSampler:
    """Watches a process tree from a thread, from construction until `stop`."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._record = TreeRecord()
        self._known: dict[psutil.Process, ProcessRecord] = {}
        self._alive: list[psutil.Process] = []
        self._highest_estimate_bytes = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="process tree")
        self._thread.start()

    def stop(self) -> TreeRecord:
        """Ends the watching; returns what was seen."""
        self._stopped.set()
        self._thread.join()
        return self._record

    def _run(self) -> None:
        family_s = memory_s = -np.inf
        while not self._stopped.is_set():
            now_s = time.monotonic()
            if now_s - family_s >= _FAMILY_INTERVAL_S:
                family_s = now_s
                self._find_family()
            self._look_at_time()
            if now_s - memory_s >= _MEMORY_INTERVAL_S:
                memory_s = now_s
                self._look_at_memory()
            self._stopped.wait(_INTERVAL_S)

    def _find_family(self) -> None:
        try:
            self._alive = [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            self._alive = []
        for process in self._alive:
            try:
                self._look_at_kind(process)
            except psutil.Error:
                continue

    def _look_at_kind(self, process: psutil.Process) -> None:
        kind = _ROOT if process == self._root else _kind(process.cmdline())
        record = self._known.get(process)
        if record is None:
            record = self._known[process] = ProcessRecord(process.pid, process.ppid(), kind)
            self._record.processes.append(record)
        elif kind not in _TRANSIENT:
            record.kind = kind  # a worker of Ray is named after what it does at the moment

    def _look_at_time(self) -> None:
        for process in self._alive:
            record = self._known.get(process)
            if record is None:
                continue
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            record.times_s.append(time.monotonic())
            record.cpu_s.append(times.user + times.system)

    def _look_at_memory(self) -> None:
        estimate_bytes = self._estimated_bytes()
        if estimate_bytes > _GROWTH * self._highest_estimate_bytes:
            self._highest_estimate_bytes = estimate_bytes
            self._look_at_proportional_memory()

    def _estimated_bytes(self) -> int:
        """All private pages, and the largest share of common ones: the object store."""
        private_bytes, shared_bytes = 0, 0
        for process in self._alive:
            try:
                memory = process.memory_info()
            except psutil.Error:
                continue
            private_bytes += memory.rss - memory.shared
            shared_bytes = max(shared_bytes, memory.shared)
        return private_bytes + shared_bytes

    def _look_at_proportional_memory(self) -> None:
        pss: dict[str, int] = {}
        private_bytes = 0
        for process in self._alive:
            record = self._known.get(process)
            if record is None:
                continue
            try:
                memory = process.memory_full_info()
            except psutil.Error:
                continue
            pss[record.kind] = pss.get(record.kind, 0) + memory.pss
            private_bytes += memory.uss
            record.peak_pss_bytes = max(record.peak_pss_bytes, memory.pss)
            record.peak_private_bytes = max(record.peak_private_bytes, memory.uss)
        self._record.peak_private_bytes = max(self._record.peak_private_bytes, private_bytes)
        if sum(pss.values()) > self._record.peak_pss_bytes:
            self._record.peak_pss_bytes = sum(pss.values())
            self._record.peak_kinds_bytes = pss


def _kind(command: Iterable[str]) -> str:
    line = " ".join(command)
    return next((kind for word, kind in _KINDS if word in line), "other")
