"""Where a clip's tokens lie: the two query grids over a latent grid, for any size of clip.

The weights know no size (positions are functions of coordinates), so a tokenizer takes clips of
other sizes than the one it was trained on, as long as patches, queries and their attention windows
divide them.

Source: arXiv:2412.10443, section 3.2.
Differs: the released code knows 17×256×256 only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweettok.errors import ShapeError
from sweettok.geometry import ClipGeometry

if TYPE_CHECKING:
    from sweettok.config import QueryConfig, SweetTokConfig


@dataclass(frozen=True)
class TokenLayout:
    """The grids of one clip size; all sizes in (rows, columns).

    Attributes:
        num_tubes: Latent frames after the first (0 for an image).
        latent_grid: Cells of a latent frame.
        spatial_grid: Spatial queries of a clip.
        temporal_grid: Temporal queries of each tube.
    """

    num_tubes: int
    latent_grid: tuple[int, int]
    spatial_grid: tuple[int, int]
    temporal_grid: tuple[int, int]

    @property
    def num_spatial_tokens(self) -> int:
        """Spatial tokens per clip (s)."""
        return math.prod(self.spatial_grid)

    @property
    def num_temporal_tokens(self) -> int:
        """Temporal tokens per clip (m)."""
        return self.num_tubes * math.prod(self.temporal_grid)

    def bits_per_clip(self, config: SweetTokConfig) -> float:
        """Information of one clip's tokens if all words were equally likely, in bits."""
        return self.num_spatial_tokens * math.log2(
            config.num_spatial_words
        ) + self.num_temporal_tokens * math.log2(config.num_temporal_words)


def token_layout(config: SweetTokConfig, geometry: ClipGeometry) -> TokenLayout:
    """How the tokens of clips of `geometry` lie, for a tokenizer of `config`.

    Raises:
        ShapeError: Patches or tubes are not the tokenizer's, or queries or windows do not divide
            the latent grid.
    """
    for name in ("patch_px", "tube_frames"):
        if getattr(geometry, name) != getattr(config.geometry, name):
            raise ShapeError(
                f"geometry.{name} is {getattr(geometry, name)}, the tokenizer's is "
                f"{getattr(config.geometry, name)}; derive it with config.geometry.of_size(...)"
            )
    return latent_layout(config, geometry.num_tubes, geometry.grid_height, geometry.grid_width)


def latent_layout(config: SweetTokConfig, num_tubes: int, rows: int, columns: int) -> TokenLayout:
    """How the tokens of a latent grid of 1 + `num_tubes` frames lie.

    Raises:
        ShapeError: Queries or windows do not divide the latent grid.
    """
    patch_px, step_px = config.geometry.patch_px, size_step_px(config)
    _require_multiple("height", rows * patch_px, step_px, patch_px)
    _require_multiple("width", columns * patch_px, step_px, patch_px)
    spatial, temporal = (
        (rows // queries.cells_per_query, columns // queries.cells_per_query)
        for queries in (config.spatial_queries, config.temporal_queries)
    )
    return TokenLayout(num_tubes, (rows, columns), spatial, temporal)


def size_step_px(config: SweetTokConfig) -> int:
    """The number of pixels of which a clip's height and width must be multiples."""
    cells = math.lcm(
        _cells_per_window(config.spatial_queries), _cells_per_window(config.temporal_queries)
    )
    return cells * config.geometry.patch_px


def _cells_per_window(queries: QueryConfig) -> int:
    return queries.cells_per_query * (queries.window_queries or 1)


def _require_multiple(name: str, size_px: int, step_px: int, patch_px: int) -> None:
    if size_px % step_px:
        below = size_px // step_px * step_px
        near = f"{below} or {below + step_px}" if below else f"{step_px}"
        raise ShapeError(
            f"{name} of {size_px} px is no multiple of {step_px} px (patches of {patch_px} px, "
            f"query windows that both fit {step_px // patch_px} cells); use {near}"
        )
