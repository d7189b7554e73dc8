"""How visible the borders of tiles are in a reconstructed video.

Two questions, over time and over space alike: are pixels next to a border worse than others
(PSNR), and does the picture jump across a border more than it does elsewhere (jump ratio)? The
original jumps too (cuts, edges of things), so each step of the reconstruction is compared with the
original's step at the same place. Edges of tubes and patches are worse and jump inside tiles as
well, so borders are compared with what lies at the same place of a tube or patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sweettok.errors import ShapeError
from sweettok.tiling import TilePlan

PEAK_TO_PEAK = 2.0  # of videos in [-1, 1]


@dataclass(frozen=True)
class SeamReport:
    """Borders against interior along one axis.

    Attributes:
        axis: "frames", "rows" or "columns".
        border_psnr_db: PSNR of the frames (rows, columns) on both sides of the borders.
        interior_psnr_db: PSNR of others at the same places of tubes (patches).
        jump_ratio: Error of the steps across borders over the error of other steps at the same
            places, as root mean squares of (reconstructed step - original step): 1 where borders do
            not show. NaN, as the PSNR, where overlaps leave no interior.
    """

    axis: str
    border_psnr_db: float
    interior_psnr_db: float
    jump_ratio: float


def measure_seams(
    original: Float[Tensor, "c t h w"], reconstruction: Float[Tensor, "c t h w"], plan: TilePlan
) -> list[SeamReport]:
    """Compares borders with the interior along every axis that has borders; videos in [-1, 1].

    Borders are where a tile begins and where one ends: both ends of every overlap.

    Raises:
        ShapeError: The two videos are not of one shape.
    """
    if original.shape != reconstruction.shape:
        raise ShapeError(
            f"original {list(original.shape)} and reconstruction {list(reconstruction.shape)} "
            "must be of one shape; cut both alike"
        )
    tile = plan.tile
    axes = (
        ("frames", 1, plan.frame_starts, tile.num_frames, tile.tube_frames),
        ("rows", 2, plan.row_starts, tile.height_px, tile.patch_px),
        ("columns", 3, plan.column_starts, tile.width_px, tile.patch_px),
    )
    error = (reconstruction - original).float()
    return [
        _measure_axis(name, error.transpose(0, axis).flatten(1), border_steps(starts, length), unit)
        for name, axis, starts, length, unit in axes
        if len(starts) > 1
    ]


def border_steps(starts: tuple[int, ...], length: int) -> list[int]:
    """Steps (from i to i + 1) at which a tile begins or ends inside the video, in order."""
    begins = {start - 1 for start in starts[1:]}
    ends = {start + length - 1 for start in starts[:-1]}
    return sorted(begins | ends)


def _measure_axis(
    axis: str, error: Float[Tensor, "n p"], borders: list[int], unit: int
) -> SeamReport:
    squared = error.square().mean(dim=1)
    jumps = error.diff(dim=0).square().mean(dim=1)
    beside = torch.zeros(len(squared), dtype=torch.bool)
    across = torch.zeros(len(jumps), dtype=torch.bool)
    for step in borders:
        beside[step : step + 2] = True
        across[step] = True
    jump, usual_jump = _border_and_usual(jumps, across, unit)
    border, interior = _border_and_usual(squared, beside, unit)
    return SeamReport(
        axis=axis,
        border_psnr_db=_psnr_db(border),
        interior_psnr_db=_psnr_db(interior),
        jump_ratio=math.sqrt(jump / usual_jump) if usual_jump else math.nan,
    )


def _border_and_usual(
    values: Float[Tensor, " n"], at_border: Tensor, unit: int
) -> tuple[float, float]:
    """Mean at borders, and mean elsewhere at the same phases of `unit` in the same proportions."""
    phase = torch.arange(len(values)) % unit
    elsewhere = [values[~at_border & (phase == part)].mean() for part in range(unit)]
    usual = torch.stack(elsewhere)[phase[at_border]].mean()
    return float(values[at_border].mean()), float(usual)


def _psnr_db(squared_error: float) -> float:
    return math.inf if squared_error == 0 else 10 * math.log10(PEAK_TO_PEAK**2 / squared_error)
