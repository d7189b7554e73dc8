"""Videos of any length and size as overlapping tiles, each of the size the tokenizer learned.

    plan = TilePlan.of_video(model, num_frames=300, height_px=480, width_px=640)
    tokens = encode_tiles(model, video, plan)          # video [c, t, h, w] in [-1, 1]
    for frames in decode_tiles(model, tokens, plan):   # finished frames, in order
        ...

Neighbouring tiles overlap; there, their pixels are blended with weights that rise and fall
linearly, so that no frame or column belongs to one tile suddenly. A tokenizer has seen clips of one
length and size: more of both would ask its positions to extrapolate, tiles do not.

Tiles are ordered by time, then row, then column. Decoding holds one batch of tiles and one layer of
tiles in time, however long the video.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from sweettok.errors import ShapeError
from sweettok.geometry import ClipGeometry
from sweettok.layout import token_layout
from sweettok.tokens import Tokens

if TYPE_CHECKING:
    from sweettok.model import SweetTok

OVERLAP_FRAMES = 5  # chosen by measurement (LOG.md)
OVERLAP_PX = 16


@dataclass(frozen=True)
class TilePlan:
    """Where the tiles of a video lie.

    Attributes:
        tile: Size of every tile.
        frame_starts: First frames of the tiles.
        row_starts, column_starts: Upper and left edges of the tiles in pixels.
        num_frames, height_px, width_px: Size of the video. A video smaller than a tile is
            continued by its last frame, row or column, and cut again after decoding.
    """

    tile: ClipGeometry
    frame_starts: tuple[int, ...]
    row_starts: tuple[int, ...]
    column_starts: tuple[int, ...]
    num_frames: int
    height_px: int
    width_px: int

    @classmethod
    def of_video(
        cls,
        model: SweetTok,
        *,
        num_frames: int,
        height_px: int,
        width_px: int,
        tile: ClipGeometry | None = None,
        overlap_frames: int | None = None,
        overlap_px: int | None = None,
    ) -> TilePlan:
        """The fewest tiles that cover a video with at least the given overlaps, evenly spread.

        Tiles begin at multiples of the tubes and patches, so that those of neighbours coincide.

        Args:
            model: The tokenizer.
            num_frames: Frames of the video.
            height_px: Height of the video in pixels.
            width_px: Width of the video in pixels.
            tile: Size of a tile; the tokenizer's configured geometry if None.
            overlap_frames: Least number of frames that neighbours in time share; None takes
                `OVERLAP_FRAMES`, or what a short tile allows.
            overlap_px: Least number of rows or columns that neighbours in space share; None takes
                `OVERLAP_PX`, or what a small tile allows.

        Raises:
            ShapeError: The tokenizer cannot take such tiles, the video is empty, or an overlap is
                outside [0, size of the tile less one tube or patch].
        """
        tile = tile or model.config.geometry
        token_layout(model.config, tile)
        tube = min(tile.tube_frames, tile.num_frames)
        axes = (
            ("num_frames", num_frames, tile.num_frames, overlap_frames, OVERLAP_FRAMES, tube),
            ("height_px", height_px, tile.height_px, overlap_px, OVERLAP_PX, tile.patch_px),
            ("width_px", width_px, tile.width_px, overlap_px, OVERLAP_PX, tile.patch_px),
        )
        frames, rows, columns = (
            _starts(
                name, size, length, min(usual, length - unit) if wanted is None else wanted, unit
            )
            for name, size, length, wanted, usual, unit in axes
        )
        return cls(tile, frames, rows, columns, num_frames, height_px, width_px)

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return len(self.frame_starts) * self.tiles_per_layer

    @property
    def tiles_per_layer(self) -> int:
        """Number of tiles that begin at the same frame."""
        return len(self.row_starts) * len(self.column_starts)

    def bits(self, model: SweetTok) -> float:
        """Bits of the video's tokens."""
        return self.num_tiles * model.bits_per_clip(self.tile)


def encode_tiles(
    model: SweetTok, video: Float[Tensor, "c t h w"], plan: TilePlan, *, batch_size: int = 8
) -> Tokens:
    """Tokens of all tiles of `video` (values in [-1, 1]), `batch_size` tiles at a time.

    Raises:
        ShapeError: The video is not of the plan's size.
    """
    expected = (plan.num_frames, plan.height_px, plan.width_px)
    if video.ndim != 4 or tuple(video.shape[1:]) != expected:
        raise ShapeError(
            f"video must be [channels, {', '.join(map(str, expected))}] as planned, "
            f"got {list(video.shape)}; plan for its own size"
        )
    corners = _corners(plan)
    parts = []
    for first in range(0, plan.num_tiles, batch_size):
        tiles = [_cut(video, plan.tile, corner) for corner in corners[first : first + batch_size]]
        parts.append(model.encode(torch.stack(tiles)))
    return Tokens.concatenated(parts)


def decode_tiles(
    model: SweetTok, tokens: Tokens, plan: TilePlan, *, batch_size: int = 8
) -> Iterator[Float[Tensor, "c t h w"]]:
    """Frames of the video in order, in [-1, 1] nominally, as soon as no later tile changes them.

    Joined by `torch.cat(..., dim=1)` they are the video.

    Raises:
        ShapeError: There are not as many tiles' tokens as planned.
    """
    if len(tokens) != plan.num_tiles:
        raise ShapeError(
            f"the plan has {plan.num_tiles} tiles, got tokens of {len(tokens)}; "
            "give the plan that the video was encoded with"
        )
    return _decode_layers(model, tokens, plan, batch_size)


def _decode_layers(
    model: SweetTok, tokens: Tokens, plan: TilePlan, batch_size: int
) -> Iterator[Tensor]:
    weights = _time_weights(plan, tokens.spatial.device)
    carried = weights.new_zeros(0)
    for index, start in enumerate(plan.frame_starts):
        first = index * plan.tiles_per_layer
        layer = _decode_layer(model, tokens[first : first + plan.tiles_per_layer], plan, batch_size)
        layer = layer * weights[index].view(1, -1, 1, 1)
        if carried.numel():
            layer[:, : carried.shape[1]] += carried
        last = index + 1 == len(plan.frame_starts)
        end = plan.num_frames if last else plan.frame_starts[index + 1]
        yield layer[:, : end - start]
        carried = layer[:, end - start :]


def _decode_layer(
    model: SweetTok, tokens: Tokens, plan: TilePlan, batch_size: int
) -> Float[Tensor, "c t h w"]:
    """The tiles that begin at one frame, blended over space and cut to the video's size."""
    tile, device = plan.tile, tokens.spatial.device
    rows = _blend_weights(plan.row_starts, tile.height_px, device)
    columns = _blend_weights(plan.column_starts, tile.width_px, device)
    height = plan.row_starts[-1] + tile.height_px
    width = plan.column_starts[-1] + tile.width_px
    canvas: Tensor | None = None
    for first in range(0, len(tokens), batch_size):
        decoded = model.decode(tokens[first : first + batch_size], tile)
        if canvas is None:
            canvas = decoded.new_zeros(*decoded.shape[1:3], height, width)
        for index, clip in enumerate(decoded, start=first):
            row, column = divmod(index, len(plan.column_starts))
            top, left = plan.row_starts[row], plan.column_starts[column]
            weight = rows[row].unsqueeze(-1) * columns[column]
            canvas[..., top : top + tile.height_px, left : left + tile.width_px] += clip * weight
    assert canvas is not None, "a plan has at least one tile in every layer"
    return canvas[..., : plan.height_px, : plan.width_px]


def _starts(name: str, size: int, length: int, overlap: int, unit: int) -> tuple[int, ...]:
    """Starts, multiples of `unit`, of the fewest tiles of `length` over `size`, spread evenly."""
    if size < 1:
        raise ShapeError(f"{name} of the video is {size}, must be at least 1")
    if size <= length:
        return (0,)
    if not 0 <= overlap <= length - unit:
        raise ShapeError(
            f"the overlap along {name} is {overlap}, must be in [0, {length - unit}]: tiles of "
            f"{length} that begin at multiples of {unit}"
        )
    surplus = -(-(size - length) // unit)
    num_steps = -(-surplus // ((length - overlap) // unit))
    return tuple(surplus * step // num_steps * unit for step in range(num_steps + 1))


def _blend_weights(
    starts: tuple[int, ...], length: int, device: torch.device
) -> Float[Tensor, "tiles length"]:
    """Each tile's weights along one axis: linear over overlaps, 1 in all at every position."""
    positions = torch.arange(length, device=device, dtype=torch.float32)
    weights = torch.ones(len(starts), length, device=device)
    for index, (start, following) in enumerate(itertools.pairwise(starts)):
        shared = start + length - following
        rise = ((positions + 1) / (shared + 1)).clamp(max=1)
        weights[index + 1] *= rise
        weights[index] *= rise.flip(0)
    total = torch.zeros(starts[-1] + length, device=device)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + length] += weight
    return torch.stack(
        [
            weight / total[start : start + length]
            for start, weight in zip(starts, weights, strict=True)
        ]
    )


def _time_weights(plan: TilePlan, device: torch.device) -> Float[Tensor, "tiles t"]:
    return _blend_weights(plan.frame_starts, plan.tile.num_frames, device)


def _corners(plan: TilePlan) -> list[tuple[int, int, int]]:
    return [
        (frame, row, column)
        for frame in plan.frame_starts
        for row in plan.row_starts
        for column in plan.column_starts
    ]


def _cut(
    video: Float[Tensor, "c t h w"], tile: ClipGeometry, corner: tuple[int, int, int]
) -> Float[Tensor, "c t h w"]:
    """The tile at `corner`, the video continued by its last frame, row and column."""
    for axis, (start, length) in enumerate(
        zip(corner, (tile.num_frames, tile.height_px, tile.width_px), strict=True), start=1
    ):
        stop = torch.arange(start, start + length, device=video.device)
        video = video.index_select(axis, stop.clamp(max=video.shape[axis] - 1))
    return video
