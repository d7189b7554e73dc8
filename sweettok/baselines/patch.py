"""Plain patch quantisation: no queries, merged cells of the latent frames are quantised directly.

    video → latent frames → attention in space and time → squares of cells merged → codes
    codes → squares of cells → attention in space and time → pixels

Cells of the first frame become nouns and adjectives, cells of the tubes verbs and adverbs, as many
tokens of each as the queries of `SweetTok` would give: two quantisers, the same bits. Every query
block is replaced by a self-attention block of the same size.

Source: the patch-wise baseline of arXiv:2412.10443, section 4; factorised space-time attention as
in Wang et al., arXiv:2406.09399 (OmniTokenizer).
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sweettok.attention import initialise_linear_layers
from sweettok.baselines.space_time import (
    CodeLift,
    LatentHead,
    SpaceTimePosition,
    attend_along,
    space_time_blocks,
)
from sweettok.baselines.tokenizer import BaselineTokenizer, QuantizedLatents
from sweettok.config import SweetTokConfig
from sweettok.lexicon import Lexicon
from sweettok.patches import PatchEmbedding, PixelHeads
from sweettok.quantizer import WordQuantizer
from sweettok.tokens import Tokens


class PatchTokenizer(BaselineTokenizer):
    """Quantises merged patches; two quantisers, for the first frame and for the tubes."""

    def __init__(self, config: SweetTokConfig, lexicon: Lexicon) -> None:
        super().__init__(config)
        self.encoder: PatchEncoder = PatchEncoder(config)
        self.spatial_quantizer = WordQuantizer(lexicon.spatial, config.quantizer)
        self.temporal_quantizer = WordQuantizer(lexicon.temporal, config.quantizer)
        self.decoder: PatchDecoder = PatchDecoder(config)
        initialise_linear_layers(self.encoder)
        initialise_linear_layers(self.decoder)
        self.decoder.heads.start_grey()

    def quantizers(self) -> tuple[WordQuantizer, WordQuantizer]:
        """One for the cells of the first frame, one for those of the tubes."""
        return self.spatial_quantizer, self.temporal_quantizer

    def quantise(
        self, spatial: Float[Tensor, "b s e"], temporal: Float[Tensor, "b m e"]
    ) -> QuantizedLatents:
        """Replaces each kind of latents by codes of its own codebook."""
        first, tubes = self.spatial_quantizer(spatial), self.temporal_quantizer(temporal)
        terms = {f"spatial_{name}": value for name, value in first.terms.items()}
        return QuantizedLatents(
            first.codes,
            tubes.codes,
            Tokens(first.ids, tubes.ids),
            first.loss + tubes.loss,
            terms | {f"temporal_{name}": value for name, value in tubes.terms.items()},
        )


class PatchEncoder(nn.Module):
    """Encodes a clip into one latent per merged square of cells."""

    def __init__(self, config: SweetTokConfig) -> None:
        super().__init__()
        self.patch_embedding = PatchEmbedding(config.geometry, config.width)
        self.position = SpaceTimePosition(config.width)
        self.blocks, self.axes = space_time_blocks(
            config,
            num_space=2 * config.encoder.spatial_depth,
            num_time=2 * config.encoder.temporal_depth,
        )
        self.first_head = LatentHead(config, config.spatial_queries.cells_per_query)
        self.tube_head = LatentHead(config, config.temporal_queries.cells_per_query)

    def forward(
        self, video: Float[Tensor, "b c t h w"]
    ) -> tuple[Float[Tensor, "b s e"], Float[Tensor, "b m e"]]:
        """Latents of the first frame and of the tubes (none of those for one frame)."""
        latents = self.patch_embedding(video)
        latents = latents + self.position(*latents.shape[1:4], video.device)
        for block, axis in zip(self.blocks, self.axes, strict=True):
            latents = attend_along(axis, block, latents)
        first = self.first_head(latents[:, 0])
        if latents.shape[1] == 1:
            return first, first[:, :0]
        tubes = self.tube_head(rearrange(latents[:, 1:], "b k y x d -> (b k) y x d"))
        return first, rearrange(tubes, "(b k) q e -> b (k q) e", b=len(video))


class PatchDecoder(nn.Module):
    """Decodes the codes of merged cells into a clip."""

    def __init__(self, config: SweetTokConfig) -> None:
        super().__init__()
        self.config = config
        self.first_codes = CodeLift(config, config.spatial_queries.cells_per_query)
        self.tube_codes = CodeLift(config, config.temporal_queries.cells_per_query)
        self.position = SpaceTimePosition(config.width)
        depths = config.decoder
        self.blocks, self.axes = space_time_blocks(
            config,
            num_space=2 * depths.spatial_depth + depths.joint_depth,
            num_time=2 * depths.temporal_depth,
        )
        self.norm = nn.RMSNorm(config.width)
        self.heads = PixelHeads(config.geometry, config.width)

    def forward(
        self, spatial: Float[Tensor, "b s e"], temporal: Float[Tensor, "b m e"]
    ) -> Float[Tensor, "b c t h w"]:
        """Pixels of the clips; no temporal codes give a single frame."""
        rows = self.config.geometry.grid_height
        first = self.first_codes(spatial, rows // self.first_codes.edge)
        latents = first.unsqueeze(1)
        if temporal.shape[1]:
            per_tube = "b (k q) e -> (b k) q e"
            codes = rearrange(temporal, per_tube, k=self.config.geometry.num_tubes)
            tubes = self.tube_codes(codes, rows // self.tube_codes.edge)
            joined = rearrange(tubes, "(b k) y x d -> b k y x d", b=len(spatial))
            latents = torch.cat([latents, joined], dim=1)
        latents = latents + self.position(*latents.shape[1:4], spatial.device)
        for block, axis in zip(self.blocks, self.axes, strict=True):
            latents = attend_along(axis, block, latents)
        return self.heads(self.norm(latents))
