"""Flattened queries: one set of queries reads all space-time latents, one vocabulary for all.

    video → latent frames → attention in space and time ──► s + m queries read all of them
    s + m codes of one codebook ──► a grid of mask tokens reads all of them → pixels

Nothing tells appearance from motion: no differences of latent frames, no running sum, no second
codebook. The vocabulary holds nouns, adjectives, verbs and adverbs in halves of both sizes, so that
s + m tokens carry the same bits per clip.

Two layouts. Globally, every query sees every latent of the clip, and every cell every code. In
windows, the queries are dealt out over squares of cells and see all latent frames of their square;
that is what lets a small budget learn anything (LOG.md), for the method as well.

Source: the "flattened queries" of the ablation in arXiv:2412.10443, section 4; holistic queries as
in Yu et al., arXiv:2406.07550 (TiTok), and Wang et al., arXiv:2410.21264 (LARP).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from sweettok.attention import (
    POSITION_STD,
    CrossBlock,
    PositionEmbedding,
    grid_coordinates,
    initialise_linear_layers,
)
from sweettok.baselines.space_time import (
    CodeLift,
    LatentHead,
    SpaceTimePosition,
    attend_along,
    space_time_blocks,
)
from sweettok.baselines.tokenizer import BaselineTokenizer, QuantizedLatents
from sweettok.baselines.vocabularies import union_size, union_vocabulary
from sweettok.config import QuantizerConfig, SweetTokConfig
from sweettok.lexicon import Lexicon
from sweettok.patches import PatchEmbedding, PixelHeads
from sweettok.quantizer import WordQuantizer
from sweettok.tokens import Tokens


@dataclass(frozen=True)
class WindowLayout:
    """How the queries are dealt out over the latent grid.

    Attributes:
        grid: Windows (rows, columns); (1, 1) is the global layout.
        cell_rows, cell_columns: Cells of one window.
        num_spatial_slots: Queries per window that are in use for a single frame.
        num_slots: Queries per window.
    """

    grid: tuple[int, int]
    cell_rows: int
    cell_columns: int
    num_spatial_slots: int
    num_slots: int

    @property
    def num_windows(self) -> int:
        """Windows of a clip."""
        return self.grid[0] * self.grid[1]


def window_layout(config: SweetTokConfig, *, is_global: bool = False) -> WindowLayout:
    """The least windows that hold whole windows of both kinds of queries in `config`.

    Global where asked, where a kind of queries in `config` is global, or where they do not divide
    the latent grid.
    """
    rows, columns = config.geometry.grid_height, config.geometry.grid_width
    kinds = (config.spatial_queries, config.temporal_queries)
    edges = [kind.cells_per_query * kind.window_queries for kind in kinds if kind.window_queries]
    edge = math.lcm(*edges)
    grid = (1, 1)
    if not is_global and len(edges) == len(kinds) and not rows % edge and not columns % edge:
        grid = (rows // edge, columns // edge)
    num_windows = grid[0] * grid[1]
    return WindowLayout(
        grid=grid,
        cell_rows=rows // grid[0],
        cell_columns=columns // grid[1],
        num_spatial_slots=config.num_spatial_tokens // num_windows,
        num_slots=config.num_tokens // num_windows,
    )


class FlattenedQueryTokenizer(BaselineTokenizer):
    """One set of queries, one quantiser.

    The first queries of every window are named spatial in `Tokens`, the others temporal; that is a
    place in the sequence and nothing else. For a single frame only the former are used.

    Args:
        config: Sizes of the `SweetTok` to compare with.
        lexicon: Words of the sizes in `config`.
        is_global: Let every query see the whole clip, whatever the windows in `config`.
    """

    def __init__(
        self, config: SweetTokConfig, lexicon: Lexicon, *, is_global: bool = False
    ) -> None:
        num_words = union_size(config)
        sizes = {"num_spatial_words": num_words, "num_temporal_words": num_words}
        super().__init__(config.model_copy(update=sizes))
        layout = window_layout(config, is_global=is_global)
        self.encoder: FlattenedEncoder = FlattenedEncoder(config, layout)
        self.quantizer = WordQuantizer(
            union_vocabulary(lexicon, num_words), _wider(config.quantizer)
        )
        self.decoder: FlattenedDecoder = FlattenedDecoder(config, layout)
        initialise_linear_layers(self.encoder)
        initialise_linear_layers(self.decoder)
        self.decoder.heads.start_grey()

    def quantizers(self) -> tuple[WordQuantizer, WordQuantizer]:
        """The one quantiser, twice."""
        return self.quantizer, self.quantizer

    def quantise(
        self, spatial: Float[Tensor, "b s e"], temporal: Float[Tensor, "b m e"]
    ) -> QuantizedLatents:
        """Replaces all latents by codes of the one codebook.

        The loss counts twice, as the losses of two quantisers would.
        """
        num_spatial = spatial.shape[1]
        found = self.quantizer(torch.cat([spatial, temporal], dim=1))
        return QuantizedLatents(
            found.codes[:, :num_spatial],
            found.codes[:, num_spatial:],
            Tokens(found.ids[:, :num_spatial], found.ids[:, num_spatial:]),
            2 * found.loss,
            found.terms,
        )


class FlattenedEncoder(nn.Module):
    """Encodes a clip into the latents of one set of queries."""

    def __init__(self, config: SweetTokConfig, layout: WindowLayout) -> None:
        super().__init__()
        self.layout = layout
        self.patch_embedding = PatchEmbedding(config.geometry, config.width)
        self.position = SpaceTimePosition(config.width)
        depths = config.encoder
        self.blocks, self.axes = space_time_blocks(
            config, num_space=depths.spatial_depth, num_time=depths.temporal_depth
        )
        self.readers = nn.ModuleList(CrossBlock(config.width, config.head_dim) for _ in self.blocks)
        self.slots = QuerySlots(config, layout)
        self.head = LatentHead(config)

    def forward(
        self, video: Float[Tensor, "b c t h w"]
    ) -> tuple[Float[Tensor, "b s e"], Float[Tensor, "b m e"]]:
        """Latents of the queries (for one frame, of the spatial ones only)."""
        latents = self.patch_embedding(video)
        latents = latents + self.position(*latents.shape[1:4], video.device)
        num_slots = self.layout.num_slots
        if latents.shape[1] == 1:
            num_slots = self.layout.num_spatial_slots
        queries = repeat(self.slots(num_slots), "r n d -> (b r) () n d", b=len(video))
        for block, axis, reader in zip(self.blocks, self.axes, self.readers, strict=True):
            latents = attend_along(axis, block, latents)
            queries = reader(queries, cut_windows(latents, self.layout))
        by_window = rearrange(self.head(queries), "(b r) n e -> b r n e", b=len(video))
        num_spatial = self.layout.num_spatial_slots
        spatial, temporal = by_window[:, :, :num_spatial], by_window[:, :, num_spatial:]
        return rearrange(spatial, "b r n e -> b (r n) e"), rearrange(
            temporal, "b r n e -> b (r n) e"
        )


class FlattenedDecoder(nn.Module):
    """Decodes one set of codes into a clip."""

    def __init__(self, config: SweetTokConfig, layout: WindowLayout) -> None:
        super().__init__()
        self.config = config
        self.layout = layout
        self.codes = CodeLift(config)
        self.slots = QuerySlots(config, layout)
        self.mask = nn.Parameter(torch.zeros(config.width))
        self.position = SpaceTimePosition(config.width)
        depths = config.decoder
        num_readers = depths.spatial_depth + depths.temporal_depth
        self.readers = nn.ModuleList(
            CrossBlock(config.width, config.head_dim) for _ in range(num_readers)
        )
        self.blocks, self.axes = space_time_blocks(
            config,
            num_space=depths.spatial_depth + depths.joint_depth,
            num_time=depths.temporal_depth,
        )
        self.norm = nn.RMSNorm(config.width)
        self.heads = PixelHeads(config.geometry, config.width)

    def forward(
        self, spatial: Float[Tensor, "b s e"], temporal: Float[Tensor, "b m e"]
    ) -> Float[Tensor, "b c t h w"]:
        """Pixels of the clips; no temporal codes give a single frame."""
        geometry = self.config.geometry
        num_latent_frames = geometry.num_latent_frames if temporal.shape[1] else 1
        context = self._context(spatial, temporal)
        position = self.position(
            num_latent_frames, geometry.grid_height, geometry.grid_width, spatial.device
        )
        latents = repeat(self.mask + position, "l y x d -> b l y x d", b=len(spatial))
        for index, (block, axis) in enumerate(zip(self.blocks, self.axes, strict=True)):
            if index < len(self.readers):
                cut = self.readers[index](cut_windows(latents, self.layout), context)
                latents = join_windows(cut, self.layout, num_latent_frames)
            latents = attend_along(axis, block, latents)
        return self.heads(self.norm(latents))

    def _context(
        self, spatial: Float[Tensor, "b s e"], temporal: Float[Tensor, "b m e"]
    ) -> Float[Tensor, "n 1 q d"]:
        """The codes of each window, lifted, with the position of their slot."""
        by_window = "b (r n) e -> (b r) n e"
        parts = [spatial, temporal] if temporal.shape[1] else [spatial]
        codes = torch.cat(
            [rearrange(part, by_window, r=self.layout.num_windows) for part in parts], dim=1
        )
        slots = repeat(self.slots(codes.shape[1]), "r n d -> (b r) () n d", b=len(spatial))
        return self.codes(codes, rows=1) + slots


class QuerySlots(nn.Module):
    """What tells the queries of a clip apart: their slot in the window, and the window's place."""

    def __init__(self, config: SweetTokConfig, layout: WindowLayout) -> None:
        super().__init__()
        self.layout = layout
        self.content = nn.Parameter(POSITION_STD * torch.randn(layout.num_slots, config.width))
        self.position = PositionEmbedding(2, config.width)

    def forward(self, num_slots: int) -> Float[Tensor, "r n d"]:
        """The first `num_slots` slots of all windows, row by row."""
        rows, columns = self.layout.grid
        cells = self.content.new_tensor([self.layout.cell_rows, self.layout.cell_columns])
        centres = grid_coordinates(rows, columns, device=self.content.device) * cells
        places = rearrange(self.position(centres), "y x d -> (y x) () d")
        return self.content[:num_slots] + places


def _wider(config: QuantizerConfig) -> QuantizerConfig:
    """Gives the one projection of words about as many parameters as two have."""
    return config.model_copy(update={"graph_hidden_dim": 2 * config.graph_hidden_dim})


def cut_windows(
    latents: Float[Tensor, "b l y x d"], layout: WindowLayout
) -> Float[Tensor, "n l cells d"]:
    """All latent frames of each window as one context."""
    rows, columns = layout.grid
    cut = "b l (r y) (q x) d -> (b r q) l (y x) d"
    return rearrange(latents, cut, r=rows, q=columns)


def join_windows(
    windows: Float[Tensor, "n l cells d"], layout: WindowLayout, num_latent_frames: int
) -> Float[Tensor, "b l y x d"]:
    """The inverse of `cut_windows`."""
    rows, columns = layout.grid
    joined = "(b r q) l (y x) d -> b l (r y) (q x) d"
    return rearrange(windows, joined, r=rows, q=columns, l=num_latent_frames, y=layout.cell_rows)
