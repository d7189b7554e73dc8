"""How busy the machine's GPUs are and how full, asked of NVIDIA's management library meanwhile.

The library comes with the driver and is called directly. On a machine without it nothing is
recorded. What it calls utilisation is the share of time in which any kernel ran, of any process:
beside the device's own clock for our batches (`EncodeStage.device_busy_s`) and the share of its
arithmetic that is used.
"""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass, field

_LIBRARY = "libnvidia-ml.so.1"
_INTERVAL_S = 0.2


class _Utilisation(ctypes.Structure):
    """Shares in percent, as the library writes them."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    """Bytes, as the library writes them."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


@dataclass
class GpuRecord:
    """All GPUs of the machine over time.

    Attributes:
        times_s: When they were looked at, on the monotonic clock.
        busy_shares: Mean share of the GPUs that were at work then, in [0, 1].
        peak_bytes: Most memory in use on any of them.
    """

    times_s: list[float] = field(default_factory=list)
    busy_shares: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def busy_between(self, first_s: float, last_s: float) -> float:
        """Mean share between two moments; NaN if nobody looked."""
        shares = [
            share
            for time_s, share in zip(self.times_s, self.busy_shares, strict=True)
            if first_s <= time_s <= last_s
        ]
        return sum(shares) / len(shares) if shares else float("nan")


class GpuSampler:
    """Watches the GPUs from a thread, from construction until `stop`."""

    def __init__(self) -> None:
        self._record = GpuRecord()
        self._library = _load()
        self._gpus = [] if self._library is None else _handles(self._library)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="GPUs")
        if self._gpus:
            self._thread.start()

    def stop(self) -> GpuRecord:
        """Ends the watching; returns what was seen."""
        self._stopped.set()
        if self._gpus:
            self._thread.join()
        return self._record

    def _run(self) -> None:
        while not self._stopped.wait(_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        utilisation, memory = _Utilisation(), _Memory()
        shares = []
        for gpu in self._gpus:
            assert self._library is not None
            if not self._library.nvmlDeviceGetUtilizationRates(gpu, ctypes.byref(utilisation)):
                shares.append(utilisation.gpu / 100)
            if not self._library.nvmlDeviceGetMemoryInfo(gpu, ctypes.byref(memory)):
                self._record.peak_bytes = max(self._record.peak_bytes, memory.used)
        if shares:
            self._record.times_s.append(time.monotonic())
            self._record.busy_shares.append(sum(shares) / len(shares))


def _load() -> ctypes.CDLL | None:
    """The library, initialised; None where there is no driver or no GPU. Its calls return 0."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    return None if library.nvmlInit_v2() else library


def _handles(library: ctypes.CDLL) -> list[ctypes.c_void_p]:
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    handles = [ctypes.c_void_p() for _ in range(count.value)]
    return [
        handle
        for index, handle in enumerate(handles)
        if not library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    ]
