"""The measured costs as tables, curves and a picture."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from PIL import Image

from pipeline.scaling.curves import Curve, fitted_curve, last_decade_line
from pipeline.scaling.growth_config import STEPS, StepName
from pipeline.scaling.growth_steps import Measurement
from pipeline.scaling.line_chart import Chart, Line, draw_charts

Cost: TypeAlias = Literal["cpu_s", "peak_bytes"]
_COSTS: dict[Cost, tuple[str, float]] = {"cpu_s": ("CPU s", 1.0), "peak_bytes": ("GB", 1e-9)}


@dataclass(frozen=True)
class ScalingReport:
    """All sizes, and what they say of a larger one.

    Attributes:
        measurements: Every step at every size.
        by_clips: The diff of equally many videos with different numbers of clips.
        predicted_num_units: The larger size.
        num_cpus: CPU cores of the machine.
    """

    measurements: tuple[Measurement, ...]
    by_clips: tuple[Measurement, ...]
    predicted_num_units: int
    num_cpus: int

    def of_step(self, step: StepName) -> list[Measurement]:
        """The measurements of one step, by size."""
        return [each for each in self.measurements if each.step == step]

    def curve(self, step: StepName, cost: Cost) -> Curve:
        """The law of one step's cost: of memory, the line through its last decade of sizes."""
        found = self.of_step(step)
        fit = last_decade_line if cost == "peak_bytes" else fitted_curve
        sizes = [each.num_units for each in found]
        return fit(sizes, [getattr(each, cost) for each in found], self.predicted_num_units)

    def to_json_values(self) -> dict[str, Any]:
        """Everything, the curves too, as plain values."""
        curves = {
            step: {cost: dataclasses.asdict(self.curve(step, cost)) for cost in _COSTS}
            for step in STEPS
        }
        return dataclasses.asdict(self) | {"curves": curves}

    def text(self) -> str:
        """All tables, in Markdown."""
        parts = (self._measured(), self._curves(), self._clips())
        return "\n\n".join("\n".join(lines) for lines in parts)

    def picture(self) -> Image.Image:
        """One panel per cost, one for the number of clips."""
        charts = [
            Chart("CPU seconds of the driver", "videos", self._lines("cpu_s")),
            Chart(
                "peak memory of the driver in GB, by videos", "videos", self._lines("peak_bytes")
            ),
            Chart(
                f"diff of {self.by_clips[0].num_units:,} videos, by clips of each",
                "clips per video",
                (
                    Line("CPU s", [(it.clips_per_unit, it.cpu_s) for it in self.by_clips]),
                    Line("GB", [(it.clips_per_unit, it.peak_bytes / 1e9) for it in self.by_clips]),
                ),
            ),
        ]
        return draw_charts(charts)

    def _measured(self) -> list[str]:
        lines = [
            "| step | videos | wall s | CPU s | µs CPU per video | peak GB | of it idle |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for it in self.measurements:
            lines.append(
                f"| {it.step} | {it.num_units:,} | {it.wall_s:.2f} | {it.cpu_s:.2f} | "
                f"{it.cpu_s / it.num_units * 1e6:.1f} | {it.peak_bytes / 1e9:.3f} | "
                f"{it.idle_bytes / 1e9:.3f} |"
            )
        return lines

    def _curves(self) -> list[str]:
        size = f"{self.predicted_num_units:,} videos"
        lines = [
            f"| step | cost | exponent (95 %) | at {size} | from – to |",
            "|---|---|---|---:|---|",
        ]
        for step in STEPS:
            for cost, (unit, factor) in _COSTS.items():
                curve = self.curve(step, cost)
                law = f"{curve.exponent:g} ({curve.exponent_low:.2f} – {curve.exponent_high:.2f})"
                lines.append(
                    f"| {step} | {unit} | {law if cost == 'cpu_s' else 'last decade, line'} | "
                    f"{curve.predicted * factor:,.1f} | {curve.predicted_low * factor:,.1f} – "
                    f"{curve.predicted_high * factor:,.1f} |"
                )
        meanings = (f"{step}: {meaning}." for step, meaning in STEPS.items())
        return [*lines, "", *meanings, "", *self._verdict()]

    def _verdict(self) -> list[str]:
        """What it comes to, in words."""
        again, index = self.curve("diff", "cpu_s"), self.curve("index", "peak_bytes")
        return [
            f"{self.predicted_num_units:,} videos of which nearly all are known are planned in "
            f"{again.predicted / 60:.1f} CPU minutes ({again.predicted_low / 60:.1f} – "
            f"{again.predicted_high / 60:.1f}); their index takes {index.predicted / 1e9:.1f} GB "
            f"({index.predicted_low / 1e9:.1f} – {index.predicted_high / 1e9:.1f}).",
            "Where a step reads files, its memory's line is an upper bound: buffers still fill up.",
        ]

    def _clips(self) -> list[str]:
        lines = [
            "| videos | clips per video | clip rows | diff CPU s | peak GB |",
            "|---:|---:|---:|---:|---:|",
        ]
        for it in self.by_clips:
            lines.append(
                f"| {it.num_units:,} | {it.clips_per_unit:,} | "
                f"{it.num_units * it.clips_per_unit:,} | {it.cpu_s:.3f} | "
                f"{it.peak_bytes / 1e9:.3f} |"
            )
        return lines

    def _lines(self, cost: Cost) -> tuple[Line, ...]:
        factor = _COSTS[cost][1]
        lines = []
        for step in STEPS:
            curve = self.curve(step, cost)
            found = self.of_step(step)
            points = [(float(it.num_units), getattr(it, cost) * factor) for it in found]
            smallest = found[0].num_units
            ratio = self.predicted_num_units / smallest
            sizes = [smallest * ratio ** (place / 40) for place in range(41)]
            law = [(size, max(curve.at(size) * factor, 1e-6)) for size in sizes]
            lines.append(Line(step, points, law))
        return tuple(lines)
