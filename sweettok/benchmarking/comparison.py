"""Our encoder against the plain restatement: equal geometry, width and depths, one run.

Both sides and the device's matrix product alternate. CPU seconds and their ratio count on a CPU,
wall time by events on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import pydantic
import torch

from sweettok.benchmarking.measurement import (
    Timing,
    count_flops,
    matrix_product,
    time_alternating,
)
from sweettok.benchmarking.memory import PeakMemory, peak_memory
from sweettok.benchmarking.subjects import encoder_of, random_lexicon, random_video
from sweettok.config import SweetTokConfig
from sweettok.strict_config import StrictConfig

SIDES = ("restatement", "ours")


class ComparisonConfig(StrictConfig):
    """How the two sides are compared.

    Attributes:
        num_repeats: Timed rounds; medians count.
        num_warmups: Untimed rounds before them.
        num_threads: Threads of matrix products.
        num_edges: Random edges per codebook graph.
        measure_memory: Whether each side also runs once in a process of its own for its peak
            memory (about as much time as two rounds).
    """

    num_repeats: int = pydantic.Field(default=5, ge=1)
    num_warmups: int = pydantic.Field(default=1, ge=0)
    num_threads: int = pydantic.Field(default=2, ge=1)
    num_edges: int = pydantic.Field(default=100_000, ge=1)
    measure_memory: bool = True


@dataclass(frozen=True)
class SideResult:
    """One side of the comparison.

    Attributes:
        name: "restatement" or "ours".
        num_flops: Counted floating-point operations of one clip.
        timing: Its calls.
        rate_fraction: FLOPs per CPU second over those of the matrix product in the same run.
        memory: Peak memory, where it was measured.
    """

    name: str
    num_flops: int
    timing: Timing
    rate_fraction: float
    memory: PeakMemory | None


@dataclass(frozen=True)
class ComparisonResult:
    """The comparison of one run.

    Attributes:
        sides: The restatement, then ours.
        matrix_flops_per_cpu_s: Rate of the machine's own float32 matrix product.
    """

    sides: tuple[SideResult, ...]
    matrix_flops_per_cpu_s: float

    @property
    def cpu_ratio(self) -> float:
        """CPU seconds of the restatement over ours (medians)."""
        plain, ours = (side.timing.median_cpu_s for side in self.sides)
        return plain / ours

    @property
    def wall_ratio(self) -> float:
        """Wall time of the restatement over ours (medians)."""
        plain, ours = (side.timing.median_wall_s for side in self.sides)
        return plain / ours


def compare_encoders(model: SweetTokConfig, config: ComparisonConfig) -> ComparisonResult:
    """Measures both sides on the CPU, one clip at a time, in float32."""
    torch.set_num_threads(config.num_threads)
    memory = {
        name: peak_memory(name, model, config.num_edges) if config.measure_memory else None
        for name in SIDES
    }
    lexicon = random_lexicon(model, config.num_edges)
    encoders = {name: encoder_of(name, model, lexicon) for name in SIDES}
    video = random_video(model.geometry, batch=1)
    calls = {name: lambda encode=encode: encode(video) for name, encode in encoders.items()}
    flops = {name: count_flops(call) for name, call in calls.items()}
    product, product_flops = matrix_product("cpu", torch.float32)
    timings = time_alternating(
        {**calls, "matrix product": product},
        num_repeats=config.num_repeats,
        num_warmups=config.num_warmups,
    )
    rate = product_flops / timings["matrix product"].median_cpu_s
    sides = tuple(
        SideResult(
            name=name,
            num_flops=flops[name],
            timing=timings[name],
            rate_fraction=flops[name] / timings[name].median_cpu_s / rate,
            memory=memory[name],
        )
        for name in SIDES
    )
    return ComparisonResult(sides, rate)
