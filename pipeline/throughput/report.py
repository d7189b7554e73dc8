"""The figures of all rounds as a table for people and values for a file."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.throughput.config import PipelineBenchmarkConfig, SideName
from pipeline.throughput.figures import SideFigures
from pipeline.throughput.goals import Goal, goals, median
from pipeline.throughput.tokens import DiskFigures

_MIB = 2**20
_ENCODING: tuple[SideName, ...] = ("encode", "pipeline")

_TITLES: dict[SideName, str] = {
    "decode": "decode alone",
    "encode": "encode alone",
    "pipeline": "**pipeline**",
    "two_processes": "two processes, half each",
    "serial": "script: a clip at a time",
    "textbook": "read_videos, map_batches, write_parquet",
    "textbook_squeezed": "the same, frames squeezed by the reader",
}


@dataclass(frozen=True)
class ClipFacts:
    """One clip of what was measured.

    Attributes:
        num_tokens: Ids of it.
        pixel_bytes: Bytes of its pixels.
    """

    num_tokens: int
    pixel_bytes: int


@dataclass(frozen=True)
class PipelineReport:
    """Everything that the benchmark found.

    Attributes:
        config: What was measured.
        rounds: Figures of every side, a mapping per round.
        left_out: Sides that could not run, and why.
        equal_shares: Per side with tokens of its own, the smallest share of clips whose ids are
            those of the pipeline.
        disk: The pipeline's dataset.
        clip: What a clip is.
    """

    config: PipelineBenchmarkConfig
    rounds: tuple[Mapping[SideName, SideFigures], ...]
    left_out: Mapping[SideName, str]
    equal_shares: Mapping[SideName, float]
    disk: DiskFigures
    clip: ClipFacts

    @property
    def goals(self) -> list[Goal]:
        """The comparisons and what they should be."""
        return goals(self.rounds, self._disk_ratio)

    @property
    def verdicts(self) -> list[str]:
        """What limited the pipeline, per round."""
        return [figures["pipeline"].verdict for figures in self.rounds]

    @property
    def efficiency(self) -> float:
        """Throughput of the pipeline ÷ that of its slower stage on the same machine.

        Where both stages share the cores it cannot be 1; `cpu_efficiency` can.
        """
        return median(
            figures["pipeline"].clips_per_s
            / min(figures["decode"].clips_per_s, figures["encode"].clips_per_s)
            for figures in self.rounds
        )

    @property
    def cpu_efficiency(self) -> float:
        """Processor seconds of decoding and encoding alone ÷ those of the pipeline."""
        return median(
            (figures["decode"].cpu_s_per_clip + figures["encode"].cpu_s_per_clip)
            / figures["pipeline"].cpu_s_per_clip
            for figures in self.rounds
        )

    def arithmetic_share(self, side: SideName) -> float:
        """Operations per second of a side's encoders ÷ the rate of their GPUs (MFU), in [0, 1].

        The rate is that of large matrix products, measured in the same round, by one process on a
        CPU: there for "encode" only. NaN where there was no model.
        """
        return median(
            figures[side].clips_per_s
            * figures["encode"].flops_per_clip
            / figures["encode"].matrix_flops_per_s
            / (figures[side].num_gpus or figures[side].num_processes)
            if figures["encode"].matrix_flops_per_s
            else math.nan
            for figures in self.rounds
        )

    def tokens_per_s_per_gpu(self, side: SideName) -> float:
        """Ids that a side gives per second and GPU; NaN without a GPU."""
        return median(
            figures[side].clips_per_s * self.clip.num_tokens / figures[side].num_gpus
            if figures[side].num_gpus
            else math.nan
            for figures in self.rounds
        )

    @property
    def _disk_ratio(self) -> float:
        # Fixed ids have no entropy, those of noise say nothing about videos.
        if self.config.mode != "real" or not self.disk.entropy_bytes_per_clip:
            return math.nan
        return self.disk.token_bytes_per_clip / self.disk.entropy_bytes_per_clip

    def text(self) -> str:
        """All tables."""
        parts = [
            self._sides_table(),
            self._pipeline_lines(),
            *self._device_lines(),
            self._disk_lines(),
            self._goals_table(),
        ]
        parts += [f"{side}: left out, {why}" for side, why in self.left_out.items()]
        return "\n\n".join(parts)

    def to_json_values(self) -> dict[str, Any]:
        """Plain values for the JSON file; what is not a number is null."""
        values = {
            "config": self.config.to_mapping(),
            "machine": {"num_cpus": os.cpu_count(), "platform": platform.platform()},
            "rounds": [
                {side: dataclasses.asdict(each) for side, each in figures.items()}
                for figures in self.rounds
            ],
            "verdicts": self.verdicts,
            "efficiency": self.efficiency,
            "cpu_efficiency": self.cpu_efficiency,
            "clip": dataclasses.asdict(self.clip),
            "arithmetic_share": {side: self.arithmetic_share(side) for side in _ENCODING},
            "tokens_per_s_per_gpu": {side: self.tokens_per_s_per_gpu(side) for side in _ENCODING},
            "goals": [dataclasses.asdict(goal) | {"is_met": goal.is_met} for goal in self.goals],
            "equal_shares": dict(self.equal_shares),
            "disk": dataclasses.asdict(self.disk),
            "left_out": dict(self.left_out),
        }
        plain: dict[str, Any] = _without_nan(values)
        return plain

    def median_of(self, side: SideName, name: str) -> float:
        """The median over the rounds of one figure of a side."""
        return median(float(getattr(figures[side], name)) for figures in self.rounds)

    def _sides_table(self) -> str:
        lines = [
            "| side | clips | clips/s | spread | CPU-s per clip | Ray's services | start-up, s "
            "| start-up, CPU-s | peak memory, MiB | same ids |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for side in self.rounds[0]:
            rates = [figures[side].clips_per_s for figures in self.rounds]
            share = self.equal_shares.get(side)
            same = "" if share is None else f"{share:.1%}"
            num_clips = self.rounds[0][side].num_clips
            lines.append(
                f"| {_TITLES[side]} | {num_clips:,} | {median(rates):.2f} "
                f"| {min(rates):.2f}–{max(rates):.2f} "
                f"| {self.median_of(side, 'cpu_s_per_clip'):.4f} "
                f"| {self.median_of(side, 'services_cpu_s_per_clip'):.4f} "
                f"| {self.median_of(side, 'startup_s'):.1f} "
                f"| {self.median_of(side, 'startup_cpu_s'):.1f} "
                f"| {self.median_of(side, 'peak_pss_bytes') / _MIB:,.0f} | {same} |"
            )
        return "\n".join(lines)

    def _pipeline_lines(self) -> str:
        last = self.rounds[-1]["pipeline"]
        shares = ", ".join(
            f"{stage} {_share(self.median_of('pipeline', f'{stage}_busy'))}"
            for stage in ("decode", "encode", "commit")
        )
        costs = sorted(last.cpu_s_per_clip_by_kind.items(), key=lambda item: -item[1])
        memory = sorted(last.peak_bytes_by_kind.items(), key=lambda item: -item[1])
        return "\n".join(
            (
                f"verdict: {', '.join(dict.fromkeys(self.verdicts))} "
                f"(busy and idle shares: {shares}; "
                f"cores busy {self.median_of('pipeline', 'cores_busy'):.0%})",
                f"efficiency: {self.cpu_efficiency:.2f} by processor seconds, "
                f"{self.efficiency:.2f} of the slower stage's throughput",
                "CPU-s per clip by kind: "
                + ", ".join(f"{kind} {value:.4f}" for kind, value in costs if value >= 0.0001),
                "memory at its peak, MiB: "
                + ", ".join(f"{kind} {value / _MIB:,.0f}" for kind, value in memory)
                + f"; object store {last.object_store_bytes / _MIB:,.0f}"
                + f", spilled {last.spilled_bytes / _MIB:,.0f}",
                f"last commit: done {self.median_of('pipeline', 'finish_s'):.1f} s after the "
                "last tokens",
            )
        )

    def _device_lines(self) -> list[str]:
        encode = self.rounds[-1]["encode"]
        if not encode.matrix_flops_per_s:
            return []
        lines = [
            f"{encode.device}: {encode.matrix_flops_per_s / 1e12:,.3f} TFLOP/s in large products, "
            f"of which encoding alone uses {self.arithmetic_share('encode'):.0%} "
            f"({encode.flops_per_clip / 1e9:,.2f} GFLOP per clip)"
        ]
        if encode.num_gpus:
            lines += [self._gpu_line(side) for side in _ENCODING]
        return ["\n".join(lines)]

    def _gpu_line(self, side: SideName) -> str:
        return (
            f"{_TITLES[side]}: GPU busy {_share(self.median_of(side, 'gpu_busy'))} with batches, "
            f"{_share(self.median_of(side, 'gpu_utilisation'))} with any kernel (busy and idle "
            f"shares); {self.arithmetic_share(side):.0%} of its rate, "
            f"{self.tokens_per_s_per_gpu(side):,.0f} tokens/s/GPU, at most "
            f"{self.median_of(side, 'gpu_peak_bytes') / _MIB:,.0f} MiB"
        )

    def _disk_lines(self) -> str:
        disk = self.disk
        ratio = "" if math.isnan(self._disk_ratio) else f", {self._disk_ratio:.3f} × the entropy"
        return (
            f"bytes per clip: tokens {disk.token_bytes_per_clip:,.0f}{ratio}; entropy of the ids "
            f"{disk.entropy_bytes_per_clip:,.0f}, ids of equal frequency "
            f"{disk.bound_bytes_per_clip:,.0f}; data files with all columns "
            f"{disk.file_bytes_per_clip:,.0f}"
        )

    def _goals_table(self) -> str:
        lines = ["| goal | found | over the rounds | wanted | |", "|---|---:|---:|---:|---|"]
        for goal in self.goals:
            sign = "≤" if goal.is_upper else "≥"
            lines.append(
                f"| {goal.name} | {goal.value:.3f} | {goal.lowest:.3f}–{goal.highest:.3f} "
                f"| {sign} {goal.limit:.2f} | {'met' if goal.is_met else 'missed'} |"
            )
        return "\n".join(lines)


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0%} / {1 - value:.0%}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
