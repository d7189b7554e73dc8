"""How much memory this process has used at most, since it began or since it was asked to forget."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import PipelineError

_FORGET_PEAK = "5"


def peak_bytes() -> int:
    """Largest resident size of this process; unlike `getrusage`, without its parent's.

    Raises:
        PipelineError: The system does not tell.
    """
    return _status_bytes("VmHWM")


def reset_peak() -> int:
    """Forgets the largest size so far; returns what the process has now.

    Raises:
        PipelineError: The system does not tell.
    """
    Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)
    return _status_bytes("VmRSS")


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise PipelineError("this system does not say how much memory a process has used (no VmHWM)")
