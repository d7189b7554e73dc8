"""Our encoder against the plain restatement: equal geometry, width and depths, one run.

Both sides, the restatement's codebooks alone and the machine's matrix product alternate. CPU
seconds of one thread count: those of several hold the time in which threads spin and wait.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import pydantic
import torch

from sweettok.benchmarking.measurement import (
    Timing,
    count_flops,
    matrix_product,
    time_alternating,
)
from sweettok.benchmarking.memory import MemorySubject, PeakMemory, peak_memory
from sweettok.benchmarking.restatement import GraphConfig, PlainEncoding
from sweettok.benchmarking.subjects import random_lexicon, random_video
from sweettok.config import SweetTokConfig
from sweettok.model import SweetTok
from sweettok.strict_config import StrictConfig

SIDES = ("restatement", "ours")
CODEBOOKS = "codebooks of the restatement"
PRODUCT = "matrix product"


class ComparisonConfig(StrictConfig):
    """How the two sides are compared.

    Attributes:
        num_repeats: Timed rounds; medians count.
        num_warmups: Untimed rounds before them.
        num_threads: Threads of matrix products; with more than one, CPU seconds hold spinning
            waits.
        graph: The graphs that the restatement convolves in every call.
        measure_memory: Whether each side also runs once in a process of its own for its peak
            memory (about as much time as two rounds).
    """

    num_repeats: int = pydantic.Field(default=5, ge=1)
    num_warmups: int = pydantic.Field(default=1, ge=0)
    num_threads: int = pydantic.Field(default=1, ge=1)
    graph: GraphConfig = GraphConfig()
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
        codebooks: The restatement's codebooks alone, which every call of it computes.
        matrix_flops_per_cpu_s: Rate of the machine's own float32 matrix product.
    """

    sides: tuple[SideResult, ...]
    codebooks: Timing
    matrix_flops_per_cpu_s: float

    @property
    def cpu_ratio(self) -> float:
        """CPU seconds of the restatement over ours (medians)."""
        plain, ours = (side.timing.median_cpu_s for side in self.sides)
        return plain / ours

    @property
    def cpu_ratio_with_stored_codes(self) -> float:
        """The same, had the restatement its codes stored: without its codebooks' seconds."""
        plain, ours = (side.timing for side in self.sides)
        rest = [
            whole - codebooks
            for whole, codebooks in zip(plain.cpu_s, self.codebooks.cpu_s, strict=True)
        ]
        return statistics.median(rest) / ours.median_cpu_s

    @property
    def wall_ratio(self) -> float:
        """Wall time of the restatement over ours (medians)."""
        plain, ours = (side.timing.median_wall_s for side in self.sides)
        return plain / ours


def compare_encoders(model: SweetTokConfig, config: ComparisonConfig) -> ComparisonResult:
    """Measures both sides on the CPU, one clip at a time, in float32."""
    torch.set_num_threads(config.num_threads)
    subject = MemorySubject(model=model, graph=config.graph)
    memory = {name: peak_memory(name, subject) if config.measure_memory else None for name in SIDES}
    lexicon = random_lexicon(model, config.graph)
    restatement = PlainEncoding(model, lexicon, config.graph).eval()
    ours = SweetTok(model, lexicon).eval()
    video = random_video(model.geometry, batch=1)
    calls = {SIDES[0]: lambda: restatement(video), SIDES[1]: lambda: ours.encode(video)}
    product, product_flops = matrix_product("cpu", torch.float32)
    timings = time_alternating(
        {**calls, CODEBOOKS: restatement.compute_codes, PRODUCT: product},
        num_repeats=config.num_repeats,
        num_warmups=config.num_warmups,
    )
    rate = product_flops / timings[PRODUCT].median_cpu_s
    sides = tuple(
        _side(name, count_flops(calls[name]), timings[name], rate, memory[name]) for name in SIDES
    )
    return ComparisonResult(sides, timings[CODEBOOKS], rate)


def _side(
    name: str, num_flops: int, timing: Timing, rate: float, memory: PeakMemory | None
) -> SideResult:
    fraction = num_flops / timing.median_cpu_s / rate
    return SideResult(name, num_flops, timing, fraction, memory)
