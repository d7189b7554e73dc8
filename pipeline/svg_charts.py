"""Curves over time and bars, as numbers that a template draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 900, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 130, 14, 34
_NUM_TICKS = 4
_BARS_LEFT, _BARS_RIGHT = 190, 130
_BAR_STEP, _BAR_THICKNESS = 34, 20

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid and what stands beside it."""

    x1: float
    y1: float
    x2: float
    y2: float
    text_x: float
    text_y: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A series: its name, and its points as SVG writes them."""

    name: str
    points: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over seconds; without any if there is too little to draw."""

    key: str
    title: str
    about: str
    curves: tuple[Curve, ...]
    ticks: tuple[Tick, ...]
    width: int = _WIDTH
    height: int = _HEIGHT
    name_x: int = _WIDTH - _RIGHT + 14


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar and where its texts stand."""

    name: str
    value: str
    y: float
    text_y: float
    length: float
    value_x: float
    thickness: int = _BAR_THICKNESS


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars below each other; `nothing` says what it means that there is none."""

    key: str
    title: str
    about: str
    nothing: str
    rows: tuple[Bar, ...]
    height: int
    width: int = _WIDTH
    left: int = _BARS_LEFT
    name_x: int = _BARS_LEFT - 10


def chart(key: str, title: str, about: str, series: dict[str, Points]) -> Chart:
    """Places curves on axes that begin at 0.

    Args:
        key: Its name on the page.
        title: What is shown, with its unit.
        about: What a reader should know.
        series: Points of each curve by its name: seconds, and a value of at least 0.
    """
    points = [point for line in series.values() for point in line]
    if len(points) < 2 * len(series):
        return Chart(key, title, about, (), ())
    right = _nice(max(x for x, _ in points))
    top = _nice(max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        across = _WIDTH - _LEFT - _RIGHT
        up = _HEIGHT - _TOP - _BOTTOM
        return round(_LEFT + across * x / right, 1), round(_TOP + up * (1 - y / top), 1)

    ticks = []
    for step in range(_NUM_TICKS + 1):
        (x1, y), (x2, _) = (place(edge, top * step / _NUM_TICKS) for edge in (0, right))
        text = f"{top * step / _NUM_TICKS:,.4g}"
        ticks.append(Tick(x1, y, x2, y, x1 - 8, y + 4, "end", text))
        (x, y1), (_, y2) = (place(right * step / _NUM_TICKS, edge) for edge in (0, top))
        ticks.append(
            Tick(x, y1, x, y2, x, y1 + 18, "middle", f"{right * step / _NUM_TICKS:,.4g} s")
        )
    curves = tuple(
        Curve(name, " ".join("{},{}".format(*place(*point)) for point in line))
        for name, line in series.items()
    )
    return Chart(key, title, about, curves, tuple(ticks))


def bar_chart(
    key: str, title: str, about: str, values: dict[str, float], unit: str, nothing: str
) -> BarChart:
    """Bars of values of at least 0, as long as the largest one allows.

    Args:
        key: Its name on the page.
        title: What is shown.
        about: What a reader should know.
        values: Each bar's value by its name.
        unit: Written behind each value.
        nothing: What it means that there is no value.
    """
    largest = max(values.values(), default=0.0) or 1.0
    rows = []
    for number, (name, value) in enumerate(values.items()):
        y = 6 + number * _BAR_STEP
        length = round((_WIDTH - _BARS_LEFT - _BARS_RIGHT) * value / largest, 1)
        shown = f"{value:,.4g} {unit}".rstrip()
        rows.append(Bar(name, shown, y, y + 15, length, _BARS_LEFT + length + 8))
    return BarChart(key, title, about, nothing, tuple(rows), 12 + len(rows) * _BAR_STEP)


def _nice(largest: float) -> float:
    """The end of an axis: 1, 2, 4, 5 or 8 times a power of ten, not below `largest`."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= largest * 0.999)
