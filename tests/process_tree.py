"""The memory of a process and all its descendants, sampled while it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import psutil

_INTERVAL_S = 0.25


@dataclass
class MemoryPeaks:
    """The highest values seen, in bytes.

    Attributes:
        tree_bytes: Sum of the resident memory of all processes; pages that several of them share
            (the object store) count once for each.
        private_bytes: The same sum without shared pages.
        by_role_bytes: Resident memory of the largest process whose command line holds the role.
        processes: Every process seen, by id.
    """

    tree_bytes: int = 0
    private_bytes: int = 0
    by_role_bytes: dict[str, int] = field(default_factory=dict)
    processes: dict[int, psutil.Process] = field(default_factory=dict)

    def survivors(self) -> list[str]:
        """What still runs of the processes seen."""
        return [
            " ".join(process.cmdline())
            for process in self.processes.values()
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    def line(self) -> str:
        """The peaks for people."""
        roles = ", ".join(
            f"{role} {size / 2**20:.0f} MiB" for role, size in self.by_role_bytes.items()
        )
        return (
            f"peak memory: {self.tree_bytes / 2**20:.0f} MiB resident in all processes, "
            f"{self.private_bytes / 2**20:.0f} MiB of it private; largest of a kind: {roles}"
        )


class MemorySampler:
    """Samples a process tree from a thread until it is stopped.

    Args:
        pid: The root of the tree.
        roles: Words that tell kinds of processes apart by their command lines.
    """

    def __init__(self, pid: int, roles: tuple[str, ...]) -> None:
        self.peaks = MemoryPeaks(by_role_bytes=dict.fromkeys(roles, 0))
        self._root = psutil.Process(pid)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> MemoryPeaks:
        """Ends the sampling; returns the peaks."""
        self._stopped.set()
        self._thread.join()
        return self.peaks

    def _run(self) -> None:
        while not self._stopped.wait(_INTERVAL_S):
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self._take(family)

    def _take(self, family: list[psutil.Process]) -> None:
        resident = private = 0
        for process in family:
            try:
                memory, command = process.memory_info(), " ".join(process.cmdline())
            except psutil.Error:
                continue
            self.peaks.processes[process.pid] = process
            resident += memory.rss
            private += memory.rss - memory.shared
            for role, peak in self.peaks.by_role_bytes.items():
                if role in command:
                    self.peaks.by_role_bytes[role] = max(peak, memory.rss)
        self.peaks.tree_bytes = max(self.peaks.tree_bytes, resident)
        self.peaks.private_bytes = max(self.peaks.private_bytes, private)
