"""Transformer parts of the restatement: everything at once, nothing in place, no piece-wise work.

Attention is PyTorch's fused one with normalised and rotated queries and keys; the gate and the
value of a feed-forward come from one product, the keys and the values of an attention from another.

Source: the sizes and parts that sweettok/benchmarking/restatement.py lists.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

FEED_FORWARD_RATIO = 8 / 3  # 512 → 2·1,365 → 512
ROTARY_PERIOD = 10_000.0  # longest wavelength of rotary positions, in cells over 2π
SIMILARITY_SCALE = 8.0  # of attention between queries and keys of unit length


class Rotation(nn.Module):
    """Rotary positions of one sequence: each half of a head's pairs turns with one coordinate.

    Args:
        coordinates: Position of every element of the sequence, in cells, on one or two axes.
        head_dim: Width of one head.

    Source: Su et al., arXiv:2104.09864.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, coordinates: Float[Tensor, "i a"], head_dim: int) -> None:
        super().__init__()
        per_axis = -(-head_dim // (2 * coordinates.shape[1]))
        frequencies = ROTARY_PERIOD ** -torch.linspace(0, 1, per_axis)
        angles = rearrange(coordinates.unsqueeze(-1) * frequencies, "i a f -> i (a f)")
        both = angles[:, : head_dim // 2].repeat(1, 2)
        self.register_buffer("cosine", both.cos())
        self.register_buffer("sine", both.sin())

    def forward(self, heads: Float[Tensor, "n g i f"]) -> Float[Tensor, "n g i f"]:
        """Turns the pairs (j, j + f/2) of every head."""
        first, second = heads.chunk(2, dim=-1)
        return heads * self.cosine + torch.cat([-second, first], dim=-1) * self.sine


class PlainAttention(nn.Module):
    """Multi-head attention with queries and keys of unit length and learned scales."""

    def __init__(self, width: int, head_dim: int, *, causal: bool = False) -> None:
        super().__init__()
        self.num_heads, self.causal = width // head_dim, causal
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key_value = nn.Linear(width, 2 * width, bias=False)
        self.to_output = nn.Linear(width, width, bias=False)
        self.query_scale = nn.Parameter(torch.ones(head_dim))
        self.key_scale = nn.Parameter(torch.ones(head_dim))

    def forward(
        self,
        sequence: Float[Tensor, "n i d"],
        context: Float[Tensor, "n j d"],
        rotation: Rotation | None = None,
    ) -> Float[Tensor, "n i d"]:
        """Attends from `sequence` to `context`; with a `rotation` both must be one sequence."""
        query, key, value = (
            rearrange(part, "n i (g f) -> n g i f", g=self.num_heads)
            for part in (self.to_query(sequence), *self.to_key_value(context).chunk(2, dim=-1))
        )
        query = F.normalize(query, dim=-1) * self.query_scale
        key = F.normalize(key, dim=-1) * self.key_scale
        if rotation is not None:
            query, key = rotation(query), rotation(key)
        mixed = F.scaled_dot_product_attention(
            query, key, value, is_causal=self.causal, scale=SIMILARITY_SCALE
        )
        return self.to_output(rearrange(mixed, "n g i f -> n i (g f)"))


class PlainFeedForward(nn.Module):
    """Normalisation and a gated feed-forward.

    Source: Shazeer, arXiv:2002.05202 (gated feed-forwards).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(width * FEED_FORWARD_RATIO)
        self.norm = nn.LayerNorm(width)
        self.to_gate_value = nn.Linear(width, 2 * hidden, bias=False)
        self.to_output = nn.Linear(hidden, width, bias=False)

    def forward(self, features: Float[Tensor, "n i d"]) -> Float[Tensor, "n i d"]:
        """What is added to `features`."""
        gate, value = self.to_gate_value(self.norm(features)).chunk(2, dim=-1)
        return self.to_output(F.silu(gate) * value)


class PlainGridBlock(nn.Module):
    """Position generator, self-attention and feed-forward over latent frames.

    Args:
        width: Model width d.
        head_dim: Width of one head.
        sequence: einops pattern of the sequences that attend to themselves.
        causal: Whether a position sees only what comes before it.

    Source: Chu et al., arXiv:2102.10882 (a depth-wise convolution generates positions).
    """

    def __init__(self, width: int, head_dim: int, sequence: str, *, causal: bool = False) -> None:
        super().__init__()
        self.sequence = sequence
        self.position = nn.Conv3d(width, width, kernel_size=3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.attention = PlainAttention(width, head_dim, causal=causal)
        self.feed_forward = PlainFeedForward(width)

    def forward(
        self, grid: Float[Tensor, "b l y x d"], rotation: Rotation
    ) -> Float[Tensor, "b l y x d"]:
        """Transforms the whole clip."""
        sizes = dict(zip("blyx", grid.shape[:4], strict=True))
        generated = self.position(rearrange(grid, "b l y x d -> b d l y x"))
        grid = grid + rearrange(generated, "b d l y x -> b l y x d")
        sequences = rearrange(grid, f"b l y x d -> {self.sequence}")
        normed = self.norm(sequences)
        sequences = sequences + self.attention(normed, normed, rotation)
        sequences = sequences + self.feed_forward(sequences)
        return rearrange(sequences, f"{self.sequence} -> b l y x d", **sizes)


class PlainQueryBlock(nn.Module):
    """Queries attend to their context, to each other where they are several, and feed forward."""

    def __init__(self, width: int, head_dim: int, *, attend_to_each_other: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.context_norm = nn.LayerNorm(width)
        self.attention = PlainAttention(width, head_dim)
        self.own_norm = nn.LayerNorm(width) if attend_to_each_other else None
        self.own_attention = PlainAttention(width, head_dim) if attend_to_each_other else None
        self.feed_forward = PlainFeedForward(width)

    def forward(
        self, queries: Float[Tensor, "n i d"], context: Float[Tensor, "n j d"]
    ) -> Float[Tensor, "n i d"]:
        """Reads `context`."""
        queries = queries + self.attention(self.norm(queries), self.context_norm(context))
        if self.own_norm is not None and self.own_attention is not None:
            normed = self.own_norm(queries)
            queries = queries + self.own_attention(normed, normed)
        return queries + self.feed_forward(queries)
