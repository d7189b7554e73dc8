"""A law through measured costs: y = start + slope · size^exponent, and how sure that is.

Relative errors count, so that small sizes have as much say as large ones. The exponents that the
measurements do not refute (95 %, by the profile of the squared errors) give the intervals; among
them a straight line is preferred, as the simplest law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

_EXPONENTS = np.round(np.arange(0.05, 2.001, 0.01), 2)
_STRAIGHT = 1.0
_NUM_PARAMETERS = 3
# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
_STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
_NORMAL = 1.96
_FLOOR = 1e-9  # squared relative error that no clock resolves


@dataclass(frozen=True)
class Curve:
    """A fitted law.

    Attributes:
        start, slope, exponent: The law's parameters; `exponent` is 1 if a straight line will do.
        exponent_low, exponent_high: Exponents that the measurements do not refute.
        predicted_size: A larger size.
        predicted, predicted_low, predicted_high: Its cost, and the smallest and largest that any
            of those exponents gives.
    """

    start: float
    slope: float
    exponent: float
    exponent_low: float
    exponent_high: float
    predicted_size: int
    predicted: float
    predicted_low: float
    predicted_high: float

    def at(self, size: float) -> float:
        """The cost of a size."""
        return float(self.start + self.slope * size**self.exponent)


def fitted_curve(sizes: Sequence[int], costs: Sequence[float], predicted_size: int) -> Curve:
    """Fits the law to at least four sizes.

    Args:
        sizes: Growing sizes.
        costs: Their costs, in any unit, above 0.
        predicted_size: The size that is wanted.
    """
    assert len(sizes) == len(costs) > _NUM_PARAMETERS
    x, y = np.asarray(sizes, np.float64), np.asarray(costs, np.float64)
    laws = [_weighted_fit(x, y, float(exponent)) for exponent in _EXPONENTS]
    errors = np.array([error for _, _, error in laws])
    freedom = len(x) - _NUM_PARAMETERS
    quantile = _STUDENT_T[freedom - 1] if freedom <= len(_STUDENT_T) else _NORMAL
    is_possible = errors <= max(errors.min(), _FLOOR) * (1 + quantile**2 / freedom)
    straight = int(np.flatnonzero(_EXPONENTS == _STRAIGHT)[0])
    chosen = straight if is_possible[straight] else int(errors.argmin())
    ends = [
        start + slope * predicted_size ** float(exponent)
        for (start, slope, _), exponent, possible in zip(laws, _EXPONENTS, is_possible, strict=True)
        if possible
    ]
    start, slope, _ = laws[chosen]
    return Curve(
        start=start,
        slope=slope,
        exponent=float(_EXPONENTS[chosen]),
        exponent_low=float(_EXPONENTS[is_possible].min()),
        exponent_high=float(_EXPONENTS[is_possible].max()),
        predicted_size=predicted_size,
        predicted=start + slope * predicted_size ** float(_EXPONENTS[chosen]),
        predicted_low=min(ends),
        predicted_high=max(ends),
    )


def last_decade_line(sizes: Sequence[int], costs: Sequence[float], predicted_size: int) -> Curve:
    """The straight line through the sizes of the last decade.

    For what holds a working set that is full beyond some size: a law through all sizes would take
    its filling for the growth of the rest. The interval is that of the lines through neighbours.
    """
    x, y = np.asarray(sizes, np.float64), np.asarray(costs, np.float64)
    x, y = x[x >= x[-1] / 10], y[x >= x[-1] / 10]
    assert len(x) > 1, "a decade of one size has no line"
    slope, start = np.polyfit(x, y, 1)
    ends = y[-1] + np.diff(y) / np.diff(x) * (predicted_size - x[-1])
    return Curve(
        start=float(start),
        slope=float(slope),
        exponent=_STRAIGHT,
        exponent_low=_STRAIGHT,
        exponent_high=_STRAIGHT,
        predicted_size=predicted_size,
        predicted=float(start + slope * predicted_size),
        predicted_low=float(ends.min()),
        predicted_high=float(ends.max()),
    )


def _weighted_fit(
    x: Float64[np.ndarray, " sizes"], y: Float64[np.ndarray, " sizes"], exponent: float
) -> tuple[float, float, float]:
    """Start and slope, neither below 0, and the sum of squared relative errors."""
    grown = x**exponent
    both = np.stack([1 / y, grown / y], axis=1)
    start, slope = np.linalg.lstsq(both, np.ones_like(y), rcond=None)[0]
    if start < 0:
        start, slope = 0.0, _only(both[:, 1])
    elif slope < 0:
        start, slope = _only(both[:, 0]), 0.0
    error = float(((both @ [start, slope] - 1) ** 2).sum())
    return float(start), float(slope), error


def _only(column: Float64[np.ndarray, " sizes"]) -> float:
    return float(column.sum() / (column**2).sum())
