"""The decoder: a grid of mask tokens reads the codes and becomes pixels.

    spatial codes ──► appearance of the first latent frame ─┐
    temporal codes ─► changes of each tube, causal in time ─┴► running sum → joint blocks → pixels

The running sum inverts the encoder's differences: latent frame i is the appearance plus all changes
up to i.

Source: arXiv:2412.10443, section 3.2.
Differs: spatial and temporal codes are read by separate stacks that meet in that sum, where the
released code concatenates them; the changes start from the appearance, so motion can depend on
what moves.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from sweettok.attention import CrossBlock, PositionEmbedding, SelfBlock, grid_coordinates
from sweettok.config import QueryConfig, SweetTokConfig
from sweettok.encoder import window_grid
from sweettok.layout import TokenLayout, token_layout
from sweettok.patches import PixelHeads


class QueryDecoder(nn.Module):
    """Decodes quantised spatial and temporal codes into a clip."""

    def __init__(self, config: SweetTokConfig) -> None:
        super().__init__()
        width, head_dim = config.width, config.head_dim
        self.config = config
        self.layout = token_layout(config, config.geometry)
        self.spatial_codes = CodeEmbedding(config, config.spatial_queries)
        self.temporal_codes = CodeEmbedding(config, config.temporal_queries)
        self.spatial_mask = nn.Parameter(torch.zeros(width))
        self.temporal_mask = nn.Parameter(torch.zeros(width))
        self.cell_position = PositionEmbedding(2, width)
        self.time_position = PositionEmbedding(1, width)
        self.spatial_readers = _cross_blocks(config, config.decoder.spatial_depth)
        self.spatial_blocks = _self_blocks(config, config.decoder.spatial_depth)
        self.temporal_readers = _cross_blocks(config, config.decoder.temporal_depth)
        self.temporal_blocks = nn.ModuleList(
            SelfBlock(width, head_dim, causal=True) for _ in range(config.decoder.temporal_depth)
        )
        self.joint_blocks = _self_blocks(config, config.decoder.joint_depth)
        self.norm = nn.RMSNorm(width)
        self.heads = PixelHeads(config.geometry, width)

    def forward(
        self,
        spatial: Float[Tensor, "b s e"],
        temporal: Float[Tensor, "b m e"],
        layout: TokenLayout | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Pixels of the clips, nominally in [-1, 1]; no temporal codes give a single frame.

        Args:
            spatial: Codes of the spatial tokens.
            temporal: Codes of the temporal tokens.
            layout: How they lie, where the clips are not of the configured geometry.
        """
        layout = layout or self.layout
        latents = self._decode_appearance(spatial, layout).unsqueeze(1)
        if temporal.shape[1]:
            changes = self._decode_motion(temporal, latents[:, 0], layout)
            latents = torch.cat([latents, latents + changes.cumsum(dim=1)], dim=1)
        batch, _, rows, columns, _ = latents.shape
        frames = rearrange(latents, "b l y x d -> (b l) (y x) d")
        for block in self.joint_blocks:
            frames = block(frames)
        joined = "(b l) (y x) d -> b l y x d"
        return self.heads(rearrange(self.norm(frames), joined, b=batch, y=rows, x=columns))

    def _decode_appearance(
        self, codes: Float[Tensor, "b s e"], layout: TokenLayout
    ) -> Float[Tensor, "b y x d"]:
        rows, columns = layout.latent_grid
        context = self.spatial_codes(codes, layout.spatial_grid)
        position = self.cell_position(grid_coordinates(rows, columns, device=codes.device))
        grid = repeat(self.spatial_mask + position, "y x d -> b y x d", b=codes.shape[0])
        windows = window_grid(self.config.spatial_queries, layout.spatial_grid)
        for reader, block in zip(self.spatial_readers, self.spatial_blocks, strict=True):
            grid = reader(grid, context, windows)
            cells = block(rearrange(grid, "b y x d -> b (y x) d"))
            grid = rearrange(cells, "b (y x) d -> b y x d", y=rows)
        return grid

    def _decode_motion(
        self,
        codes: Float[Tensor, "b m e"],
        appearance: Float[Tensor, "b y x d"],
        layout: TokenLayout,
    ) -> Float[Tensor, "b k y x d"]:
        batch, rows, columns, _ = appearance.shape
        times = torch.arange(layout.num_tubes, device=codes.device, dtype=torch.float32)
        time_embedding = rearrange(self.time_position(times.unsqueeze(-1)), "k d -> k () () d")
        by_tube = rearrange(codes, "b (k n) e -> (b k) n e", k=layout.num_tubes)
        context = self.temporal_codes(by_tube, layout.temporal_grid)
        windows = window_grid(self.config.temporal_queries, layout.temporal_grid)
        start = appearance + self.temporal_mask
        grid = start.unsqueeze(1) + time_embedding
        for reader, block in zip(self.temporal_readers, self.temporal_blocks, strict=True):
            read = reader(rearrange(grid, "b k y x d -> (b k) y x d"), context, windows)
            over_time = block(rearrange(read, "(b k) y x d -> (b y x) k d", b=batch))
            grid = rearrange(over_time, "(b y x) k d -> b k y x d", b=batch, y=rows, x=columns)
        return grid - start.unsqueeze(1)


class CodeEmbedding(nn.Module):
    """Lifts codes to the model's width and lays them on their query grid with positions."""

    def __init__(self, config: SweetTokConfig, queries: QueryConfig) -> None:
        super().__init__()
        self.cells_per_query = queries.cells_per_query
        self.lift = nn.Linear(config.quantizer.code_dim, config.width)
        self.position = PositionEmbedding(2, config.width)

    def forward(
        self, codes: Float[Tensor, "n q e"], query_grid: tuple[int, int]
    ) -> Float[Tensor, "n qy qx d"]:
        """Embeds the codes of n grids of `query_grid` (rows, columns)."""
        coordinates = grid_coordinates(
            *query_grid, cells_per_step=self.cells_per_query, device=codes.device
        )
        unit_variance = codes * codes.shape[-1] ** 0.5
        lifted = rearrange(self.lift(unit_variance), "n (y x) d -> n y x d", y=query_grid[0])
        return lifted + self.position(coordinates)


def _self_blocks(config: SweetTokConfig, depth: int) -> nn.ModuleList:
    return nn.ModuleList(SelfBlock(config.width, config.head_dim) for _ in range(depth))


def _cross_blocks(config: SweetTokConfig, depth: int) -> nn.ModuleList:
    return nn.ModuleList(CrossBlock(config.width, config.head_dim) for _ in range(depth))
