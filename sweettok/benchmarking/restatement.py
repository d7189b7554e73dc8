"""The published tokenizer's encoding, restated as a yardstick: the same parts, the plain way.

It is our own code, written from facts about the released implementation: 521 GFLOP for a clip of
17×256×256 px, width 512, 8 heads of 64, depths 8 and 4; the parts below; and its profile by parts.
It is not that implementation, shares no line with it, and is not numerically equal to it: its
weights are random, it is timed and never used. What it has in common with it:

- fused attention; one product for gate and value (512 → 2·1,365), one for keys and values;
- in every block a depth-wise 3-D convolution that generates positions, rotary embeddings,
  normalised queries and keys; spatial queries that also attend to each other;
- a mean over latent frames for spatial queries; temporal queries over differences of the embedded
  patches, one window of cells each;
- codebooks from a two-layer graph convolution in every call, by index_select and scatter;
- latents in two halves, two nearest modifiers and one nearest head: three indices per query;
- nothing in place, nothing in pieces.

Where a fact was missing, the cheaper reading was taken: positions of rotary embeddings and weights
of the graph's edges are computed beforehand, temporal queries do not attend to each other, a
feed-forward has the activation of ours, encoding ends with the indices.

Source: arXiv:2412.10443, section 3, and the released implementation's measured profile.
Differs: geometry, width, depths, query grids and codebook sizes are those of the tokenizer it is
compared with; no dropout, no training.
"""

from __future__ import annotations

import math

import pydantic
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from sweettok.attention import grid_coordinates
from sweettok.benchmarking.restated_blocks import PlainGridBlock, PlainQueryBlock, Rotation
from sweettok.benchmarking.restated_codebook import PlainGraphCodebook
from sweettok.config import SweetTokConfig
from sweettok.layout import token_layout
from sweettok.lexicon import Lexicon
from sweettok.patches import PatchEmbedding
from sweettok.strict_config import StrictConfig

WITHIN_FRAMES = "(b l) (y x) d"
OVER_TIME = "(b y x) l d"


class GraphConfig(StrictConfig):
    """The graphs of words that the restatement convolves in every call.

    With the defaults they take 4 % of a call. In the released implementation's profile they took
    16 %, as about 365,000 and 91,000 pairs would here (LOG.md): the defaults flatter the
    restatement.

    Attributes:
        num_spatial_edges: Adjective–noun pairs; the default is that of a codebook of full size
            built from WordNet's definitions and examples.
        num_temporal_edges: Adverb–verb pairs, likewise.
        hidden_dim: Hidden width of the released graph convolution.
    """

    num_spatial_edges: int = pydantic.Field(default=51_527, ge=1)
    num_temporal_edges: int = pydantic.Field(default=12_490, ge=1)
    hidden_dim: int = pydantic.Field(default=256, ge=1)


class PlainEncoding(nn.Module):
    """Patches, spatial and temporal transformers, query transformers and both codebooks."""

    def __init__(self, config: SweetTokConfig, lexicon: Lexicon, graph: GraphConfig) -> None:
        super().__init__()
        self.config = config
        width, head_dim, code_dim = config.width, config.head_dim, config.quantizer.code_dim
        self.patch_embedding = PatchEmbedding(config.geometry, width)
        depths = (config.encoder.spatial_depth, config.encoder.temporal_depth)
        self.spatial_blocks = nn.ModuleList(
            PlainGridBlock(width, head_dim, WITHIN_FRAMES) for _ in range(depths[0])
        )
        self.temporal_blocks = nn.ModuleList(
            PlainGridBlock(width, head_dim, OVER_TIME, causal=True) for _ in range(depths[1])
        )
        self.spatial_readers, self.temporal_readers = (
            nn.ModuleList(
                PlainQueryBlock(width, head_dim, attend_to_each_other=several) for _ in range(depth)
            )
            for depth, several in zip(depths, (True, False), strict=True)
        )
        self._add_positions()
        self.spatial_latent = nn.Linear(width, 2 * code_dim)
        self.temporal_latent = nn.Linear(width, 2 * code_dim)
        self.spatial_codebook, self.temporal_codebook = (
            PlainGraphCodebook(words, hidden_dim=graph.hidden_dim, code_dim=code_dim)
            for words in (lexicon.spatial, lexicon.temporal)
        )
        self.requires_grad_(False)

    def _add_positions(self) -> None:
        geometry, head_dim = self.config.geometry, self.config.head_dim
        cells = grid_coordinates(geometry.grid_height, geometry.grid_width).flatten(0, 1)
        self.over_cells = Rotation(cells, head_dim)
        times = torch.arange(geometry.num_tubes, dtype=torch.float32)
        self.over_time = Rotation(times.unsqueeze(-1), head_dim)
        layout = token_layout(self.config, geometry)
        width, per_tube = self.config.width, math.prod(layout.temporal_grid)
        self.spatial_queries = nn.Parameter(torch.randn(layout.num_spatial_tokens, width))
        self.temporal_queries = nn.Parameter(torch.randn(per_tube, width))

    @torch.no_grad()
    def forward(
        self, video: Float[Tensor, "b c t h w"]
    ) -> tuple[Int[Tensor, "b s 3"], Int[Tensor, "b m 3"]]:
        """Three indices for each spatial and each temporal query of `video` in [-1, 1]."""
        latents = embedded = self.patch_embedding(video)
        queries = self.spatial_queries.expand(latents.shape[0], -1, -1)
        for block, reader in zip(self.spatial_blocks, self.spatial_readers, strict=True):
            latents = block(latents, self.over_cells)
            queries = reader(queries, rearrange(latents.mean(dim=1), "b y x d -> b (y x) d"))
        motion = self._read_motion(embedded.diff(dim=1))
        return (
            self.spatial_codebook(self.spatial_latent(queries)),
            self.temporal_codebook(self.temporal_latent(motion)),
        )

    @torch.no_grad()
    def compute_codes(self) -> tuple[Float[Tensor, "v e"], Float[Tensor, "v e"]]:
        """Both codebooks' codes: the part of every call that stored codes would save."""
        return self.spatial_codebook.codes(), self.temporal_codebook.codes()

    def _read_motion(self, changes: Float[Tensor, "b k y x d"]) -> Float[Tensor, "b m d"]:
        batch, num_tubes = changes.shape[:2]
        step = self.config.temporal_queries.cells_per_query
        queries = self.temporal_queries.repeat(batch * num_tubes, 1).unsqueeze(1)
        for block, reader in zip(self.temporal_blocks, self.temporal_readers, strict=True):
            changes = block(changes, self.over_time)
            cells = rearrange(changes, "b k (y p) (x q) d -> (b k y x) (p q) d", p=step, q=step)
            queries = reader(queries, cells)
        return rearrange(queries, "(b m) i d -> b (m i) d", b=batch)
