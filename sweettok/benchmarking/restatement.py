"""The published tokenizer's encoding restated in plain PyTorch, as the yardstick of the benchmark.

It does the released computation in the released way: attention as two matrix products around a
softmax, gate and value of the feed-forward as two products, both codebooks' graph convolutions in
every call, similarities of all latents to all words at once, three indices per query. Width,
depths, geometry and codebook sizes are those of the tokenizer it is compared with. Its weights are
random: it is timed, not used.

Source: arXiv:2412.10443, section 3, and the released implementation's measured profile (521 GFLOP
per clip of 17×256×256).
Differs: written anew from that description; no dropout, no training.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from sweettok.attention import FEED_FORWARD_RATIO
from sweettok.codebook import normalised_adjacency
from sweettok.config import SweetTokConfig
from sweettok.layout import token_layout
from sweettok.lexicon import Lexicon, Vocabulary
from sweettok.patches import PatchEmbedding


class PlainAttention(nn.Module):
    """Multi-head attention with the matrix of attention weights written out."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = width // head_dim
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key = nn.Linear(width, width, bias=False)
        self.to_value = nn.Linear(width, width, bias=False)
        self.to_output = nn.Linear(width, width, bias=False)

    def forward(
        self, sequence: Float[Tensor, "n i d"], context: Float[Tensor, "n j d"], *, causal: bool
    ) -> Float[Tensor, "n i d"]:
        """Attends from `sequence` to `context`."""
        query, key, value = (
            rearrange(part, "n i (g f) -> n g i f", g=self.num_heads)
            for part in (self.to_query(sequence), self.to_key(context), self.to_value(context))
        )
        scores = torch.einsum("ngif,ngjf->ngij", query * query.shape[-1] ** -0.5, key)
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        mixed = torch.einsum("ngij,ngjf->ngif", scores.softmax(dim=-1), value)
        return self.to_output(rearrange(mixed, "n g i f -> n i (g f)"))


class PlainBlock(nn.Module):
    """Pre-norm block of attention and gated feed-forward."""

    def __init__(self, width: int, head_dim: int, *, causal: bool = False) -> None:
        super().__init__()
        hidden = round(width * FEED_FORWARD_RATIO)
        self.causal = causal
        self.norm = nn.LayerNorm(width)
        self.attention = PlainAttention(width, head_dim)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.to_gate = nn.Linear(width, hidden, bias=False)
        self.to_value = nn.Linear(width, hidden, bias=False)
        self.to_output = nn.Linear(hidden, width, bias=False)

    def forward(
        self, sequence: Float[Tensor, "n i d"], context: Float[Tensor, "n j d"] | None = None
    ) -> Float[Tensor, "n i d"]:
        """Transforms `sequence`, attending to `context` (to itself where none is given)."""
        normed = self.norm(sequence)
        source = normed if context is None else context
        sequence = sequence + self.attention(normed, source, causal=self.causal)
        normed = self.feed_forward_norm(sequence)
        return sequence + self.to_output(F.silu(self.to_gate(normed)) * self.to_value(normed))


class PlainGraphCodebook(nn.Module):
    """Codes of a vocabulary by a two-layer graph convolution, computed in every call."""

    edge_index: Tensor
    edge_weight: Tensor
    word_embeddings: Tensor

    def __init__(self, vocabulary: Vocabulary, config: SweetTokConfig) -> None:
        super().__init__()
        edge_index, edge_weight = normalised_adjacency(vocabulary.edges, vocabulary.num_words)
        self.register_buffer("edge_index", edge_index)
        self.register_buffer("edge_weight", edge_weight)
        self.register_buffer("word_embeddings", vocabulary.embeddings)
        hidden = config.quantizer.graph_hidden_dim
        self.first_layer = nn.Linear(vocabulary.embedding_dim, hidden)
        self.second_layer = nn.Linear(hidden, config.quantizer.code_dim)
        self.num_heads = vocabulary.parts_of_speech.count(vocabulary.parts_of_speech[0])

    def forward(self, latents: Float[Tensor, "b n e"]) -> Int[Tensor, "b n 3"]:
        """Two nearest modifier words and the nearest head word of each latent."""
        hidden = F.relu(self._convolve(self.first_layer(self.word_embeddings)))
        codes = F.normalize(self._convolve(self.second_layer(hidden)), dim=-1)
        similarity = F.normalize(latents, dim=-1) @ codes.T
        heads, modifiers = similarity.split(
            [self.num_heads, similarity.shape[-1] - self.num_heads], dim=-1
        )
        two = modifiers.topk(2, dim=-1).indices + self.num_heads
        return torch.cat([two, heads.argmax(dim=-1, keepdim=True)], dim=-1)

    def _convolve(self, features: Float[Tensor, "v f"]) -> Float[Tensor, "v f"]:
        source, target = self.edge_index
        messages = features.index_select(0, source) * self.edge_weight.unsqueeze(-1)
        places = target.unsqueeze(-1).expand_as(messages)
        return torch.zeros_like(features).scatter_add_(0, places, messages)


class PlainEncoding(nn.Module):
    """Patches, spatial and temporal transformers, query transformers and both codebooks."""

    def __init__(self, config: SweetTokConfig, lexicon: Lexicon) -> None:
        super().__init__()
        self.config = config
        width, head_dim = config.width, config.head_dim
        self.patch_embedding = PatchEmbedding(config.geometry, width)
        depths = (config.encoder.spatial_depth, config.encoder.temporal_depth)
        self.spatial_blocks, self.temporal_blocks = (
            nn.ModuleList(PlainBlock(width, head_dim, causal=causal) for _ in range(depth))
            for depth, causal in zip(depths, (False, True), strict=True)
        )
        self.spatial_readers, self.temporal_readers = (
            nn.ModuleList(PlainBlock(width, head_dim) for _ in range(depth)) for depth in depths
        )
        layout = token_layout(config, config.geometry)
        per_tube = math.prod(layout.temporal_grid)
        self.spatial_queries = nn.Parameter(torch.randn(layout.num_spatial_tokens, width))
        self.temporal_queries = nn.Parameter(torch.randn(per_tube, width))
        self.spatial_latent = nn.Linear(width, config.quantizer.code_dim)
        self.temporal_latent = nn.Linear(width, config.quantizer.code_dim)
        self.spatial_codebook = PlainGraphCodebook(lexicon.spatial, config)
        self.temporal_codebook = PlainGraphCodebook(lexicon.temporal, config)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(
        self, video: Float[Tensor, "b c t h w"]
    ) -> tuple[Int[Tensor, "b s 3"], Int[Tensor, "b m 3"]]:
        """Three indices for each spatial and each temporal query of `video` in [-1, 1]."""
        latents = self.patch_embedding(video)
        batch = latents.shape[0]
        queries = self.spatial_queries.expand(batch, -1, -1)
        for block, reader in zip(self.spatial_blocks, self.spatial_readers, strict=True):
            frames = block(rearrange(latents, "b l y x d -> (b l) (y x) d"))
            latents = frames.view_as(latents)
            queries = reader(queries, rearrange(latents.mean(dim=1), "b y x d -> b (y x) d"))
        motion = self._read_motion(latents.diff(dim=1))
        return (
            self.spatial_codebook(self.spatial_latent(queries)),
            self.temporal_codebook(self.temporal_latent(motion)),
        )

    def _read_motion(self, changes: Float[Tensor, "b k y x d"]) -> Float[Tensor, "b m d"]:
        batch, num_tubes, rows, columns, _ = changes.shape
        step = self.config.temporal_queries.cells_per_query
        queries = self.temporal_queries.repeat(batch * num_tubes, 1).unsqueeze(1)
        for block, reader in zip(self.temporal_blocks, self.temporal_readers, strict=True):
            over_time = block(rearrange(changes, "b k y x d -> (b y x) k d"))
            changes = rearrange(
                over_time, "(b y x) k d -> b k y x d", b=batch, y=rows, x=columns
            ).contiguous()
            cells = rearrange(changes, "b k (y p) (x q) d -> (b k y x) (p q) d", p=step, q=step)
            queries = reader(queries, cells)
        return rearrange(queries, "(b m) i d -> b (m i) d", b=batch)
