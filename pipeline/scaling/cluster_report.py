"""How throughput grows with simulated GPUs, and what clips cost the driver: tables, a picture."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipeline.scaling.cluster_figures import ClusterFigures
from pipeline.scaling.line_chart import Chart, Line, draw_charts


@dataclass(frozen=True)
class DriverFigures:
    """What a run cost the driver's process, the encoders being instant.

    Attributes:
        num_units: Videos.
        clips_per_unit: Clips of each.
        whole_run_s: Seconds of the run.
        cpu_s: CPU seconds of the driver's process.
        grown_bytes: What its memory grew by at most during the run.
    """

    num_units: int
    clips_per_unit: int
    whole_run_s: float
    cpu_s: float
    grown_bytes: int


@dataclass(frozen=True)
class ClusterReport:
    """All sizes of the cluster.

    Attributes:
        sizes: One per size, the smallest first.
        driver: The driver's costs at different numbers of clips.
        clip_s: Seconds that an encoder takes for a clip.
        goal: Share of linear scaling that is to be kept.
        num_cpus: CPU cores of the machine that all of it ran on.
    """

    sizes: tuple[ClusterFigures, ...]
    driver: tuple[DriverFigures, ...]
    clip_s: float
    goal: float
    num_cpus: int

    def scaling(self, figures: ClusterFigures) -> float:
        """Throughput per GPU, as a share of the smallest cluster's."""
        first = self.sizes[0]
        per_gpu = figures.steady_clips_per_s / figures.num_gpus
        return per_gpu / (first.steady_clips_per_s / first.num_gpus)

    @property
    def is_met(self) -> bool:
        """Whether every size keeps the goal."""
        return all(self.scaling(figures) >= self.goal for figures in self.sizes)

    def to_json_values(self) -> dict[str, Any]:
        """Everything as plain values."""
        scaling = [self.scaling(figures) for figures in self.sizes]
        return dataclasses.asdict(self) | {"scaling": scaling, "is_met": self.is_met}

    def text(self) -> str:
        """Both tables and the verdict, in Markdown."""
        verdict = "met" if self.is_met else "missed"
        worst = min(self.scaling(figures) for figures in self.sizes)
        lines = [
            *self._sizes(),
            "",
            f"Linear scaling kept at every size: {worst:.3f} or more; goal {self.goal:g}: {verdict}"
            ".",
            "",
            *self._driver(),
        ]
        return "\n".join(lines)

    def picture(self) -> Image.Image:
        """Throughput by GPUs beside the line that encoders without any pause would make."""
        measured = [(float(it.num_gpus), it.steady_clips_per_s) for it in self.sizes]
        perfect = [(float(it.num_gpus), it.num_gpus / self.clip_s) for it in self.sizes]
        lines = (Line("measured", measured, measured), Line("without pause", (), perfect))
        return draw_charts([Chart("clips per second, steady state", "simulated GPUs", lines)])

    def _sizes(self) -> list[str]:
        lines = [
            "| GPUs | clips | steady s | clips/s | of linear | encoders busy | idlest | ramp s | "
            "tail s | whole run s | committer busy s |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for it in self.sizes:
            lines.append(
                f"| {it.num_gpus} | {it.num_clips:,} | {it.steady_s:.1f} | "
                f"{it.steady_clips_per_s:.2f} | {self.scaling(it):.3f} | {it.encoder_busy:.1%} | "
                f"{it.idlest_encoder_busy:.1%} | {it.ramp_s:.1f} | {it.tail_s:.1f} | "
                f"{it.whole_run_s:.1f} | {it.commit_busy_s:.2f} |"
            )
        return lines

    def _driver(self) -> list[str]:
        lines = [
            "| videos | clips per video | clips | whole run s | driver CPU s | driver grew MB |",
            "|---:|---:|---:|---:|---:|---:|",
        ]
        for it in self.driver:
            lines.append(
                f"| {it.num_units:,} | {it.clips_per_unit:,} | "
                f"{it.num_units * it.clips_per_unit:,} | {it.whole_run_s:.1f} | {it.cpu_s:.2f} | "
                f"{it.grown_bytes / 1e6:.1f} |"
            )
        return lines
