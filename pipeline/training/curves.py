"""Training curves as one picture, drawn from the numbers that a run logged.

Four panels over optimiser steps: losses, PSNR, share of words used, perplexity of the words. Thin
lines are training batches, dots with lines are held-out clips; dashes part the phases.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import DatasetError
from sweettok.strict_config import StrictConfig

PANEL_WIDTH, PANEL_HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 34
SCALE = 2  # drawn larger and shrunk, so that lines are smooth
FONT_PX = 13
BACKGROUND, GRID, QUIET, TEXT = (255, 255, 255), (232, 234, 237), (101, 109, 118), (31, 35, 40)
COLOURS = (
    (9, 105, 218), (207, 81, 16), (26, 127, 55), (130, 80, 223), (191, 57, 137), (154, 103, 0)
)  # fmt: skip

# The losses that are never negative: the axis is logarithmic.
LOSSES = {
    "squared_error": "squared error",
    "absolute_error": "absolute error",
    "perceptual": "perceptual",
    "spatial_commitment": "spatial commitment",
    "temporal_commitment": "temporal commitment",
    "discriminator": "discriminator",
}

Row = Mapping[str, Any]
Transform = Callable[[float], float]


class PlotConfig(StrictConfig):
    """One run of `jobs/plot_training.py`.

    Attributes:
        metrics: `metrics.jsonl` of a trained tokenizer or of a checkpoint.
        picture: PNG file to write.
    """

    metrics: str
    picture: str = pydantic.Field(pattern=r"\.png$")


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Attributes:
        label: What it shows.
        points: (step, value), in the order of steps.
        is_held_out: Whether it was measured on held-out clips.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    is_held_out: bool = False


@dataclass(frozen=True)
class Panel:
    """What one panel shows.

    Attributes:
        title: Above it.
        series: Its lines.
        is_logarithmic: Whether the vertical axis is; all values must then be above 0.
    """

    title: str
    series: tuple[Series, ...]
    is_logarithmic: bool = False


def plot_training(config: PlotConfig) -> None:
    """Draws the curves of one run.

    Raises:
        DatasetError: The metrics are missing or are not those of a training run.
    """
    picture = Path(config.picture)
    picture.parent.mkdir(parents=True, exist_ok=True)
    training_curves(read_metrics(Path(config.metrics))).save(picture)


def read_metrics(path: Path) -> list[Row]:
    """The rows of a `metrics.jsonl`.

    Raises:
        DatasetError: There is none, or it holds no line of training.
    """
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror}); train first, or name the metrics.jsonl of "
            "a trained tokenizer with --set metrics=…"
        ) from None
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON lines ({error})") from None
    if not any(isinstance(row, dict) and row.get("kind") == "train" for row in rows):
        raise DatasetError(f"{path}: holds no line of training; is it a run's metrics.jsonl?")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise DatasetError(f"{path}: line {number} has no step; it was not written by training")
    return rows


def training_curves(rows: Sequence[Row]) -> Image.Image:
    """Draws all panels that the rows have numbers for, two beside each other."""
    panels = [panel for panel in training_panels(rows) if panel.series]
    steps = [row["step"] for row in rows]
    ends = _phase_ends(rows)
    num_rows = -(-len(panels) // 2)
    size = (2 * PANEL_WIDTH * SCALE, num_rows * PANEL_HEIGHT * SCALE)
    picture = Image.new("RGB", size, BACKGROUND)
    for index, panel in enumerate(panels):
        corner = (index % 2 * PANEL_WIDTH, index // 2 * PANEL_HEIGHT)
        _Drawing(picture, corner, panel, (min(steps), max(steps))).draw(ends)
    return picture.resize((size[0] // SCALE, size[1] // SCALE), Image.Resampling.LANCZOS)


def training_panels(rows: Sequence[Row]) -> tuple[Panel, ...]:
    """The panels and their lines; a line without any number is left out."""
    both = [("train", ""), ("evaluation", ", held out")]
    return (
        Panel(
            "losses",
            _series(rows, [("train", f"loss/{name}", label) for name, label in LOSSES.items()]),
            True,
        ),
        Panel(
            "PSNR, dB",
            _series(
                rows,
                [
                    ("train", "psnr_db", "training batches"),
                    ("evaluation", "psnr_db", "held-out clips"),
                    ("evaluation", "image_psnr_db", "held-out images"),
                ],
            ),
        ),
        *(
            Panel(
                title,
                _series(
                    rows,
                    [
                        (kind, f"{prefix}/{part}", part + suffix)
                        for part in ("spatial", "temporal")
                        for kind, suffix in both
                    ],
                ),
                is_logarithmic,
            )
            for title, prefix, is_logarithmic in (
                ("words used", "usage", False),
                ("perplexity", "perplexity", True),
            )
        ),
    )


def _series(rows: Sequence[Row], wanted: Iterable[tuple[str, str, str]]) -> tuple[Series, ...]:
    found = []
    for kind, name, label in wanted:
        points = tuple(
            (row["step"], row[name]) for row in rows if row["kind"] == kind and name in row
        )
        if points:
            found.append(Series(label, points, kind == "evaluation"))
    return tuple(found)


def _phase_ends(rows: Sequence[Row]) -> list[int]:
    """The last step of every phase but the last one."""
    last = {row["phase"]: row["step"] for row in rows if row["kind"] == "train"}
    return list(last.values())[:-1]


class _Drawing:
    """One panel on its place in the picture; positions are in unscaled pixels."""

    def __init__(
        self,
        picture: Image.Image,
        corner: tuple[int, int],
        panel: Panel,
        steps: tuple[int, int],
    ) -> None:
        self.draw_on = ImageDraw.Draw(picture)
        self.left, self.top = corner
        self.panel = panel
        self.first_step, self.last_step = steps
        positive = [
            value
            for series in panel.series
            for _, value in series.points
            if not panel.is_logarithmic or value > 0
        ] or [1.0]
        self.ticks = (
            _powers(min(positive), max(positive))
            if panel.is_logarithmic
            else _round_values(min(positive), max(positive))
        )
        self.lowest = min(*positive, *self.ticks)
        self.highest = max(*positive, *self.ticks)
        self.font = ImageFont.load_default(FONT_PX * SCALE)

    def draw(self, phase_ends: Sequence[int]) -> None:
        """Everything, axes first."""
        for value in self.ticks:
            height = self._y(value)
            self._line(
                [(self._x(self.first_step), height), (self._x(self.last_step), height)], GRID
            )
            self._text((LEFT - 8, height), f"{value:g}", QUIET, "rm")
        for step in _round_values(self.first_step, self.last_step):
            if self.first_step <= step <= self.last_step:
                self._text((self._x(step), PANEL_HEIGHT - BOTTOM + 8), f"{step:,.0f}", QUIET, "mt")
        for step in phase_ends:
            for dash in range(TOP, PANEL_HEIGHT - BOTTOM, 8):
                self._line([(self._x(step), dash), (self._x(step), dash + 4)], QUIET)
        self._text((LEFT, 10), self.panel.title, TEXT, "lt")
        for index, series in enumerate(self.panel.series):
            self._draw_series(series, COLOURS[index % len(COLOURS)])
        self._draw_legend()

    def _draw_series(self, series: Series, colour: tuple[int, int, int]) -> None:
        points = [
            (self._x(step), self._y(value))
            for step, value in series.points
            if not self.panel.is_logarithmic or value > 0
        ]
        self._line(points, colour, width=2.0 if series.is_held_out else 1.5)
        if series.is_held_out or len(points) == 1:
            for x, y in points:
                box = [self._scaled((x - 2.2, y - 2.2)), self._scaled((x + 2.2, y + 2.2))]
                self.draw_on.ellipse(box, fill=colour)

    def _draw_legend(self) -> None:
        right = float(PANEL_WIDTH - RIGHT)
        for index, series in reversed(list(enumerate(self.panel.series))):
            self._text((right, 10), series.label, COLOURS[index % len(COLOURS)], "rt")
            right -= self.font.getlength(series.label) / SCALE + 12

    def _x(self, step: float) -> float:
        span = max(self.last_step - self.first_step, 1)
        return LEFT + (step - self.first_step) / span * (PANEL_WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        scale: Transform = math.log if self.panel.is_logarithmic else float
        low, high = scale(self.lowest), scale(self.highest)
        share = (scale(value) - low) / (high - low) if high > low else 0.5
        return TOP + (1 - share) * (PANEL_HEIGHT - TOP - BOTTOM)

    def _line(
        self,
        points: Sequence[tuple[float, float]],
        colour: tuple[int, int, int],
        width: float = 1.0,
    ) -> None:
        scaled = [self._scaled(point) for point in points]
        self.draw_on.line(scaled, fill=colour, width=round(width * SCALE), joint="curve")

    def _text(
        self, position: tuple[float, float], text: str, colour: tuple[int, int, int], anchor: str
    ) -> None:
        place = self._scaled(position)
        self.draw_on.text(place, text, fill=colour, font=self.font, anchor=anchor)

    def _scaled(self, position: tuple[float, float]) -> tuple[float, float]:
        return ((self.left + position[0]) * SCALE, (self.top + position[1]) * SCALE)


def _round_values(lowest: float, highest: float) -> list[float]:
    """About five round numbers that span the range."""
    span = max(highest - lowest, abs(highest) * 1e-3, 1e-9)
    magnitude = 10 ** math.floor(math.log10(span / 4))
    step = next(size for size in (1, 2, 5, 10) if size * magnitude >= span / 4) * magnitude
    first = math.floor(lowest / step)
    return [round(index * step, 12) for index in range(first, math.ceil(highest / step) + 1)]


def _powers(lowest: float, highest: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them where there are few, that span the range."""
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    below = max((value for value in values if value <= lowest), default=values[0])
    above = min((value for value in values if value >= highest), default=values[-1])
    return [value for value in values if below <= value <= above]
