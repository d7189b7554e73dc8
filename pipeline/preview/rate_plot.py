"""Quality over bits: tokenizers as points, codecs as curves, ready to be drawn as inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.preview.usage_curve import AxisTick
from sweettok.errors import ShapeError

VIEW_WIDTH, VIEW_HEIGHT = 900, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 14, 42
NUM_COLOURS = 7
MIN_REACH_DB = 2.0
MAX_Y_TICKS = 8


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One measurement: bits of a clip, mean PSNR in dB and the ends of its interval."""

    bits: float
    psnr_db: float
    low_db: float
    high_db: float

    def __post_init__(self) -> None:
        values = (self.bits, self.psnr_db, self.low_db, self.high_db)
        if not all(map(math.isfinite, values)) or self.bits <= 0:
            raise ShapeError(f"a point needs finite decibels at more than 0 bits, found {values}")


@dataclass(frozen=True, slots=True)
class RateSeries:
    """What belongs together: one tokenizer, or one codec at several rates."""

    name: str
    points: tuple[RatePoint, ...]


@dataclass(frozen=True, slots=True)
class RateDistortion:
    """What the plot shows.

    Attributes:
        series: Tokenizers and codecs with bits, at most one colour each of `NUM_COLOURS` in turn.
        yardsticks: Names and PSNR in dB of what has no bits, drawn across.
    """

    series: tuple[RateSeries, ...]
    yardsticks: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.series or not all(one.points for one in self.series):
            raise ShapeError("a plot of rates needs series, and each of them a point")


@dataclass(frozen=True, slots=True)
class PlottedPoint:
    """A point in the plot's units, with its interval and what it says when pointed at."""

    x: float
    y: float
    low_y: float
    high_y: float
    text: str


@dataclass(frozen=True, slots=True)
class PlottedSeries:
    """A series in the plot's units: its colour (1 …), its points and the line through them."""

    name: str
    colour: int
    points: tuple[PlottedPoint, ...]
    line: str


@dataclass(frozen=True, slots=True)
class RatePlot:
    """The drawn plot, in units of a `width` × `height` view box."""

    series: tuple[PlottedSeries, ...]
    yardsticks: tuple[tuple[str, float], ...]
    bit_ticks: tuple[AxisTick, ...]
    psnr_ticks: tuple[AxisTick, ...]
    width: int = VIEW_WIDTH
    height: int = VIEW_HEIGHT
    left: int = LEFT
    right: int = VIEW_WIDTH - RIGHT
    top: int = TOP
    bottom: int = VIEW_HEIGHT - BOTTOM


def rate_plot(rates: RateDistortion) -> RatePlot:
    """Draws PSNR over bits per clip, the latter on a logarithmic axis."""
    points = [point for one in rates.series for point in one.points]
    bits = _widened(
        math.log10(min(p.bits for p in points)), math.log10(max(p.bits for p in points))
    )
    heights = [value for _, value in rates.yardsticks]
    heights += [value for p in points for value in (p.low_db, p.psnr_db, p.high_db)]
    step, low_db, high_db = _whole_steps(min(heights), max(heights))

    def across(value: float) -> float:
        share = (math.log10(value) - bits[0]) / (bits[1] - bits[0])
        return round(LEFT + share * (VIEW_WIDTH - LEFT - RIGHT), 1)

    def up(value: float) -> float:
        share = (value - low_db) / (high_db - low_db)
        return round(VIEW_HEIGHT - BOTTOM - share * (VIEW_HEIGHT - TOP - BOTTOM), 1)

    def plotted(number: int, one: RateSeries) -> PlottedSeries:
        placed = tuple(
            PlottedPoint(
                across(point.bits),
                up(point.psnr_db),
                up(point.low_db),
                up(point.high_db),
                f"{one.name}: {point.psnr_db:.2f} dB at {point.bits:,.0f} bits",
            )
            for point in sorted(one.points, key=lambda point: point.bits)
        )
        line = " ".join(f"{point.x},{point.y}" for point in placed) if placed[1:] else ""
        return PlottedSeries(one.name, 1 + number % NUM_COLOURS, placed, line)

    return RatePlot(
        series=tuple(plotted(number, one) for number, one in enumerate(rates.series)),
        yardsticks=tuple((name, up(value)) for name, value in rates.yardsticks),
        bit_ticks=tuple(AxisTick(across(v), f"{v:,.0f}") for v in _round_numbers(*bits)),
        psnr_ticks=tuple(
            AxisTick(up(low_db + number * step), f"{low_db + number * step:g}")
            for number in range(round((high_db - low_db) / step) + 1)
        ),
    )


def _widened(low: float, high: float) -> tuple[float, float]:
    """A little room at both ends; at least a factor of two each way around a single rate."""
    room = max(0.06 * (high - low), 0.3 if high - low < 0.1 else 0.0)
    return low - room, high + room


def _whole_steps(low: float, high: float) -> tuple[float, float, float]:
    """Distance of the ticks, and their ends around both values."""
    middle, reach = (low + high) / 2, max(high - low, MIN_REACH_DB)
    low, high = middle - reach / 2, middle + reach / 2
    step = next(size for size in (0.5, 1, 2, 5, 10, 20, 50) if reach / size <= MAX_Y_TICKS)
    return step, math.floor(low / step) * step, math.ceil(high / step) * step


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two powers."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [value for value in found if low <= math.log10(value) <= high]
