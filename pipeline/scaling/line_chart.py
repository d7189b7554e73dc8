"""Points and lines on logarithmic axes, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_WIDTH_PX, _HEIGHT_PX = 860, 360
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 90, 170, 44, 46
_SCALE = 2  # drawn larger and shrunk, so that edges are smooth
_FONT_PX, _DOT_PX = 13, 4
_BACKGROUND, _GRID, _QUIET, _TEXT = (255,) * 3, (225, 228, 232), (101, 109, 118), (31, 35, 40)
_COLOURS = (
    (9, 105, 218),
    (26, 127, 55),
    (207, 81, 16),
    (130, 80, 223),
    (191, 57, 137),
    (154, 103, 0),
    (87, 96, 106),
)

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One series.

    Attributes:
        name: Its name in the legend.
        points: What was measured, drawn as dots; x and y above 0.
        law: The line through them, possibly longer than they reach.
    """

    name: str
    points: Points
    law: Points = ()


@dataclass(frozen=True)
class Chart:
    """One panel.

    Attributes:
        title: What is shown, with its unit.
        x_name: What the horizontal axis counts.
        lines: The series, at most seven.
    """

    title: str
    x_name: str
    lines: tuple[Line, ...]


def draw_charts(charts: Sequence[Chart]) -> Image.Image:
    """Draws panels below each other."""
    size = (_WIDTH_PX, _HEIGHT_PX * len(charts))
    picture = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), _BACKGROUND)
    brush = ImageDraw.Draw(picture)
    for number, chart in enumerate(charts):
        _Panel(brush, number * _HEIGHT_PX, chart).draw()
    return picture.resize(size, Image.Resampling.LANCZOS)


class _Panel:
    def __init__(self, brush: ImageDraw.ImageDraw, top: float, chart: Chart) -> None:
        assert len(chart.lines) <= len(_COLOURS)
        self._brush = brush
        self._top = top
        self._chart = chart
        self._font = ImageFont.load_default(_FONT_PX * _SCALE)
        points = [point for line in chart.lines for point in (*line.points, *line.law)]
        self._x_range = _whole_powers([x for x, _ in points])
        self._y_range = _whole_powers([y for _, y in points])

    def draw(self) -> None:
        self._text(_LEFT_PX, self._top + 14, self._chart.title, _TEXT, "lt")
        self._draw_grid()
        for line, colour in zip(self._chart.lines, _COLOURS, strict=False):
            if len(line.law) > 1:
                self._brush.line([self._place(*p) for p in line.law], fill=colour, width=_SCALE)
            for point in line.points:
                x, y = self._place(*point)
                reach = _DOT_PX * _SCALE
                self._brush.ellipse([x - reach, y - reach, x + reach, y + reach], fill=colour)
        for row, (line, colour) in enumerate(zip(self._chart.lines, _COLOURS, strict=False)):
            left = _WIDTH_PX - _RIGHT_PX + 16
            self._text(left, self._top + _TOP_PX + row * 20, line.name, colour, "lt")

    def _draw_grid(self) -> None:
        bottom, right = self._top + _HEIGHT_PX - _BOTTOM_PX, _WIDTH_PX - _RIGHT_PX
        for power in range(self._x_range[0], self._x_range[1] + 1):
            x, _ = self._place(10.0**power, 10.0 ** self._y_range[0])
            ends = [(x, (self._top + _TOP_PX) * _SCALE), (x, bottom * _SCALE)]
            self._brush.line(ends, fill=_GRID, width=_SCALE)
            self._text(x / _SCALE, bottom + 6, _number(power), _QUIET, "mt")
        for power in range(self._y_range[0], self._y_range[1] + 1):
            _, y = self._place(10.0 ** self._x_range[0], 10.0**power)
            self._brush.line(
                [(_LEFT_PX * _SCALE, y), (right * _SCALE, y)], fill=_GRID, width=_SCALE
            )
            self._text(_LEFT_PX - 8, y / _SCALE, _number(power), _QUIET, "rm")
        self._text(right, bottom + 24, self._chart.x_name, _QUIET, "rt")

    def _place(self, x: float, y: float) -> tuple[float, float]:
        across = _share(x, self._x_range) * (_WIDTH_PX - _LEFT_PX - _RIGHT_PX)
        up = _share(y, self._y_range) * (_HEIGHT_PX - _TOP_PX - _BOTTOM_PX)
        top = self._top + _HEIGHT_PX - _BOTTOM_PX - up
        return ((_LEFT_PX + across) * _SCALE, top * _SCALE)

    def _text(self, x: float, y: float, text: str, colour: tuple[int, ...], anchor: str) -> None:
        place = (x * _SCALE, y * _SCALE)
        self._brush.text(place, text, fill=colour, font=self._font, anchor=anchor)


def _whole_powers(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _share(value: float, powers: tuple[int, int]) -> float:
    return (math.log10(value) - powers[0]) / (powers[1] - powers[0])


def _number(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:.{-power}f}"
