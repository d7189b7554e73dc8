"""The decoupled query encoder: spatial queries gather appearance, temporal queries gather motion.

    video → latent frames ── spatial blocks ──► spatial queries read their mean, or the first one
                                   │
                     differences of consecutive latent frames
                                   └─ causal temporal blocks ──► temporal queries read them

Source: arXiv:2412.10443, section 3.2 (Decoupled Query AutoEncoder).
Differs: which latent frames the spatial queries read, how far a temporal query sees and how far
spatial blocks look are settings; motion is read from differences of what the spatial blocks made of
the frames, where the released code takes those of the embedded patches; query content is one
learned vector plus a learned map of the query's position, so the same weights serve other grid
sizes.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from sweettok.attention import CrossBlock, PositionEmbedding, SelfBlock, grid_coordinates
from sweettok.centring import LatentCentring
from sweettok.config import QueryConfig, SweetTokConfig
from sweettok.patches import PatchEmbedding

WHOLE_FRAME_EVERY = 4  # of blocks with windows, each so many-th looks across their borders


class QueryEncoder(nn.Module):
    """Encodes a clip into continuous spatial and temporal query latents."""

    def __init__(self, config: SweetTokConfig) -> None:
        super().__init__()
        width, head_dim = config.width, config.head_dim
        self.config = config
        self.patch_embedding = PatchEmbedding(config.geometry, width)
        self.cell_position = PositionEmbedding(2, width)
        self.spatial_blocks = nn.ModuleList(
            SelfBlock(width, head_dim) for _ in range(config.encoder.spatial_depth)
        )
        self.temporal_blocks = nn.ModuleList(
            SelfBlock(width, head_dim, causal=True) for _ in range(config.encoder.temporal_depth)
        )
        self.time_position = PositionEmbedding(1, width)
        self.spatial_queries = QueryReader(config, config.spatial_queries, len(self.spatial_blocks))
        self.temporal_queries = QueryReader(
            config, config.temporal_queries, len(self.temporal_blocks)
        )

    def forward(
        self, video: Float[Tensor, "b c t h w"]
    ) -> tuple[Float[Tensor, "b s e"], Float[Tensor, "b m e"]]:
        """Latents of the spatial and of the temporal queries (none of those for one frame)."""
        latents = self.patch_embedding(video)
        batch, num_latent_frames, rows, columns, _ = latents.shape
        latents = latents + self.cell_position(grid_coordinates(rows, columns, device=video.device))
        spatial = self.spatial_queries.start(batch, rows, columns)
        for index in range(len(self.spatial_blocks)):
            latents = self._within_frames(index, latents)
            spatial = self.spatial_queries.read(index, spatial, self._appearance(latents))
        spatial_latents = self.spatial_queries.finish(spatial)
        if num_latent_frames == 1:
            return spatial_latents, spatial_latents[:, :0]
        return spatial_latents, self._encode_motion(latents.diff(dim=1))

    def _within_frames(
        self, layer: int, latents: Float[Tensor, "b l y x d"]
    ) -> Float[Tensor, "b l y x d"]:
        """Lets the cells of each latent frame attend to each other through the block of `layer`."""
        batch, _, rows, columns, _ = latents.shape
        window = (
            None if self._sees_whole_frames(layer) else self.config.encoder.spatial_window_cells
        )
        height, width = attention_window(window, rows, columns)
        cut = "b l (r y) (q x) d -> (b l r q) (y x) d"
        joined = "(b l r q) (y x) d -> b l (r y) (q x) d"
        size = {"r": rows // height, "q": columns // width, "y": height, "x": width}
        mixed = self.spatial_blocks[layer](rearrange(latents, cut, **size))
        return rearrange(mixed, joined, b=batch, **size)

    def _sees_whole_frames(self, layer: int) -> bool:
        number = layer + 1
        return number % WHOLE_FRAME_EVERY == 0 or number == len(self.spatial_blocks)

    def _appearance(self, latents: Float[Tensor, "b l y x d"]) -> Float[Tensor, "b y x d"]:
        if self.config.encoder.spatial_source == "mean":
            return latents.mean(dim=1)
        return latents[:, 0]

    def _encode_motion(self, changes: Float[Tensor, "b k y x d"]) -> Float[Tensor, "b m e"]:
        batch, num_tubes, rows, columns, _ = changes.shape
        times = torch.arange(num_tubes, device=changes.device, dtype=torch.float32)
        time_embedding = self.time_position(times.unsqueeze(-1))
        over_time = rearrange(changes, "b k y x d -> (b y x) k d") + time_embedding
        queries = self.temporal_queries.start(batch * num_tubes, rows, columns)
        queries = queries + repeat(time_embedding, "k d -> (b k) () () d", b=batch)
        for index, block in enumerate(self.temporal_blocks):
            over_time = block(over_time)
            by_tube = rearrange(over_time, "(b y x) k d -> (b k) y x d", b=batch, y=rows, x=columns)
            queries = self.temporal_queries.read(index, queries, by_tube)
        latents = self.temporal_queries.finish(queries)
        return rearrange(latents, "(b k) n e -> b (k n) e", b=batch)


class QueryReader(nn.Module):
    """A grid of learnable queries that reads latent features layer by layer."""

    def __init__(self, config: SweetTokConfig, queries: QueryConfig, num_layers: int) -> None:
        super().__init__()
        self.queries = queries
        self.content = nn.Parameter(torch.zeros(config.width))
        self.position = PositionEmbedding(2, config.width)
        self.blocks = nn.ModuleList(
            CrossBlock(config.width, config.head_dim) for _ in range(num_layers)
        )
        self.norm = nn.RMSNorm(config.width)
        self.to_latent = nn.Linear(config.width, config.quantizer.code_dim)
        self.centre = LatentCentring(config.quantizer.code_dim)

    def start(self, batch: int, rows: int, columns: int) -> Float[Tensor, "n qy qx d"]:
        """The query grid over `rows` × `columns` latent cells, before it has read anything."""
        step = self.queries.cells_per_query
        coordinates = grid_coordinates(
            rows // step, columns // step, cells_per_step=step, device=self.content.device
        )
        return repeat(self.content + self.position(coordinates), "y x d -> n y x d", n=batch)

    def read(
        self, layer: int, grid: Float[Tensor, "n qy qx d"], cells: Float[Tensor, "n y x d"]
    ) -> Float[Tensor, "n qy qx d"]:
        """Lets the queries attend to `cells` through the block of `layer`."""
        return self.blocks[layer](grid, cells, window_grid(self.queries, grid.shape[1:3]))

    def finish(self, grid: Float[Tensor, "n qy qx d"]) -> Float[Tensor, "n q e"]:
        """Projects the queries into code space, row by row.

        Each dimension is centred and scaled over all queries: latents that share a direction would
        all have the same nearest word, and most of the codebook would never be used (LOG.md).
        """
        latents = self.to_latent(self.norm(rearrange(grid, "n y x d -> n (y x) d")))
        centred = self.centre(rearrange(latents, "n q e -> (n q) e"))
        return rearrange(centred, "(n q) e -> n q e", n=latents.shape[0])


def attention_window(edge: int | None, rows: int, columns: int) -> tuple[int, int]:
    """Height and width in cells of the windows of `edge` cells on a grid of rows × columns.

    Per axis the smallest divisor of the grid that is not below `edge`; the whole grid without one.
    """

    def along(cells: int) -> int:
        if edge is None or edge >= cells:
            return cells
        return next(size for size in range(edge, cells + 1) if cells % size == 0)

    return along(rows), along(columns)


def window_grid(queries: QueryConfig, query_grid: tuple[int, int] | torch.Size) -> tuple[int, int]:
    """Number of attention windows (rows, columns) over a query grid."""
    window = queries.window_queries
    if window is None:
        return (1, 1)
    return (query_grid[0] // window, query_grid[1] // window)
