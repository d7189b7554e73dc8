"""The geometry of a codebook's rank–count curve, ready to be drawn as inline SVG.

Both axes are logarithmic: natural words fall on a straight line (Zipf), a healthy codebook stays
flat and ends late, a collapsed one drops after a few codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

VIEW_WIDTH, VIEW_HEIGHT = 440, 210
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 12, 38
MAX_POINTS = 240


@dataclass(frozen=True, slots=True)
class AxisTick:
    """A labelled position on an axis, in the plot's units."""

    position: float
    label: str


@dataclass(frozen=True, slots=True)
class UsageCurve:
    """A drawn curve, in units of a `width` × `height` view box.

    Attributes:
        line: Points of the curve as SVG wants them ("x,y x,y …"); empty if no code was used.
        area: The same, closed along the horizontal axis.
        even_y: Height at which the curve would lie if every code were used equally often.
        last_used_x: Where the used codes end.
        rank_ticks, count_ticks: Powers of ten on both axes.
    """

    line: str
    area: str
    even_y: float
    last_used_x: float
    rank_ticks: tuple[AxisTick, ...]
    count_ticks: tuple[AxisTick, ...]
    width: int = VIEW_WIDTH
    height: int = VIEW_HEIGHT
    left: int = LEFT
    right: int = VIEW_WIDTH - RIGHT
    top: int = TOP
    bottom: int = VIEW_HEIGHT - BOTTOM


def usage_curve(counts: Int[np.ndarray, " num_codes"]) -> UsageCurve:
    """Draws counts by rank, most used code first.

    Args:
        counts: Tokens that chose each code, at least 0.
    """
    ranked = np.sort(counts[counts > 0])[::-1]
    most = int(ranked[0]) if len(ranked) else 1
    even = float(counts.sum()) / len(counts)
    lowest = min(1.0, even) if even > 0 else 1.0
    ranks = _spread_ranks(len(ranked))
    points = [(_x(rank, len(counts)), _y(int(ranked[rank - 1]), lowest, most)) for rank in ranks]
    last_used_x = points[-1][0] if points else float(LEFT)
    floor = VIEW_HEIGHT - BOTTOM
    closing = [(last_used_x, floor), (LEFT, floor)] if points else []
    return UsageCurve(
        line=_svg_points(points),
        area=_svg_points([*points, *closing]),
        even_y=round(_y(max(even, lowest), lowest, most), 1),
        last_used_x=round(last_used_x, 1),
        rank_ticks=tuple(
            AxisTick(round(_x(power, len(counts)), 1), f"{power:,}")
            for power in _powers_of_ten(1, len(counts))
        ),
        count_ticks=tuple(
            AxisTick(round(_y(power, lowest, most), 1), f"{power:,}")
            for power in _powers_of_ten(1, most)
        ),
    )


def _spread_ranks(num_used: int) -> list[int]:
    """Ranks from 1 to `num_used`, evenly spaced on the logarithmic axis, each once."""
    if not num_used:
        return []
    return sorted({round(rank) for rank in np.geomspace(1, num_used, MAX_POINTS).tolist()})


def _x(rank: float, num_codes: int) -> float:
    share = math.log(rank) / math.log(max(num_codes, 2))
    return LEFT + share * (VIEW_WIDTH - LEFT - RIGHT)


def _y(count: float, lowest: float, highest: float) -> float:
    # A curve of single tokens lies in the middle rather than dividing by nothing.
    share = math.log(count / lowest) / math.log(highest / lowest) if highest > lowest else 0.5
    return TOP + (1 - share) * (VIEW_HEIGHT - TOP - BOTTOM)


def _powers_of_ten(lowest: int, highest: int) -> list[int]:
    powers = [10**exponent for exponent in range(12)]
    return [power for power in powers if lowest <= power <= highest]


def _svg_points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
