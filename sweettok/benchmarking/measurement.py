"""Timing that survives a busy machine: all sides alternate, medians count, rates come along.

A ratio of two medians from one run says something on a machine that does other work; a time alone
does not. The device's own matrix rate is measured between the others, so that "fraction of the
rate" compares like with like.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

MATRIX_EDGE_CPU = 2048
MATRIX_EDGE_CUDA = 8192


@dataclass(frozen=True)
class Timing:
    """Measured calls of one thing.

    Attributes:
        wall_s: Wall time of each call, by events of the device where it has them.
        cpu_s: CPU seconds of the whole process during each call.
    """

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]

    @property
    def median_wall_s(self) -> float:
        """Median wall time of a call."""
        return statistics.median(self.wall_s)

    @property
    def median_cpu_s(self) -> float:
        """Median CPU seconds of a call."""
        return statistics.median(self.cpu_s)


def time_alternating(
    calls: Mapping[str, Callable[[], Any]],
    *,
    num_repeats: int,
    num_warmups: int = 1,
    device: torch.device | str = "cpu",
) -> dict[str, Timing]:
    """Times all `calls` in turn, `num_repeats` rounds after `num_warmups` untimed ones."""
    device = torch.device(device)
    for _ in range(num_warmups):
        for call in calls.values():
            call()
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(num_repeats):
        for name, call in calls.items():
            measured[name].append(_time_once(call, device))
    return {
        name: Timing(tuple(wall for wall, _ in pairs), tuple(cpu for _, cpu in pairs))
        for name, pairs in measured.items()
    }


def matrix_product(
    device: torch.device | str, dtype: torch.dtype, edge: int | None = None
) -> tuple[Callable[[], Any], int]:
    """A square matrix product, by default as large as the device's rate asks, and its FLOPs."""
    device = torch.device(device)
    edge = edge or (MATRIX_EDGE_CUDA if device.type == "cuda" else MATRIX_EDGE_CPU)
    matrix = torch.randn(edge, edge, device=device, dtype=dtype)
    return lambda: matrix @ matrix, 2 * edge**3


def count_flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of `call`: those of matrix products and attention, counted."""
    counted = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=counted) as counter:
        call()
    return counter.get_total_flops()


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    # PyTorch knows the shapes' cost for its CUDA kernels only; causal ones are counted in full.
    return int(sdpa_flop_count(query, key, value))


def _time_once(call: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        return _time_once_by_events(call)
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def _time_once_by_events(call: Callable[[], Any]) -> tuple[float, float]:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    cpu = time.process_time()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000, time.process_time() - cpu
