"""Transformer parts: attention, feed-forward, positions. Everything the encoder and decoder share.

All attention goes through PyTorch's fused `scaled_dot_product_attention`; the feed-forward gate and
value come from one matrix product. Without gradients on a CPU, self-attention blocks work through a
batch in pieces that fit its caches: the results are the same, the memory and the time are less.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

FEED_FORWARD_RATIO = 8 / 3  # a gated feed-forward of this ratio costs what a plain one of 4 does
HIDDEN_MULTIPLE = 32  # hidden widths that vector units like: 1,365 runs at 3/4 of the rate of 1,376
PIECE_POSITIONS = 1024  # positions that a block transforms at a time in inference on a CPU
POSITION_STD = 0.3  # of embedded positions at initialisation; larger drowns what they are added to


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself or to a context, without biases.

    Args:
        width: Model width d.
        head_dim: Width of one head; d must be a multiple.
    """

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = width // head_dim
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key_value = nn.Linear(width, 2 * width, bias=False)
        self.to_output = nn.Linear(width, width, bias=False)

    def forward(
        self,
        sequence: Float[Tensor, "n i d"],
        context: Float[Tensor, "n j d"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "n i d"]:
        """Attends from `sequence` to `context` (to itself where none is given)."""
        query = self._heads(self.to_query(sequence))
        source = sequence if context is None else context
        key, value = (self._heads(part) for part in self.to_key_value(source).chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return self.to_output(rearrange(mixed, "n g i f -> n i (g f)"))

    def weights(
        self, sequence: Float[Tensor, "n i d"], context: Float[Tensor, "n j d"]
    ) -> Float[Tensor, "n g i j"]:
        """How much of each position of `context` every head mixes in for each of `sequence`.

        Those that `forward` uses without ever holding them; they sum to 1 over j.
        """
        query = self._heads(self.to_query(sequence))
        key = self._heads(self.to_key_value(context).chunk(2, dim=-1)[0])
        return (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)

    def _heads(self, features: Float[Tensor, "n i d"]) -> Float[Tensor, "n g i f"]:
        return rearrange(features, "n i (g f) -> n g i f", g=self.num_heads)


class FeedForward(nn.Module):
    """Gated feed-forward (SwiGLU), gate and value computed by one matrix product."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(1, round(width * FEED_FORWARD_RATIO / HIDDEN_MULTIPLE)) * HIDDEN_MULTIPLE
        self.to_gate_value = nn.Linear(width, 2 * hidden, bias=False)
        self.to_output = nn.Linear(hidden, width, bias=False)

    def forward(self, features: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Applies the feed-forward position by position."""
        gate, value = self.to_gate_value(features).chunk(2, dim=-1)
        if torch.is_grad_enabled():
            return self.to_output(F.silu(gate) * value)
        return self.to_output(F.silu(gate, inplace=True).mul_(value))


class SelfBlock(nn.Module):
    """Pre-norm block: attention of a sequence to itself, then feed-forward."""

    def __init__(self, width: int, head_dim: int, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, head_dim)
        self.feed_forward_norm = nn.RMSNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, sequence: Float[Tensor, "n i d"]) -> Float[Tensor, "n i d"]:
        """Transforms each of the n sequences on its own."""
        if not _works_in_pieces(sequence):
            return self._transform(sequence)
        pieces = sequence.split(max(1, PIECE_POSITIONS // sequence.shape[1]))
        if len(pieces) == 1:
            return self._transform(sequence)
        return torch.cat([self._transform(piece) for piece in pieces])

    def _transform(self, sequence: Float[Tensor, "n i d"]) -> Float[Tensor, "n i d"]:
        normed = self.attention_norm(sequence)
        sequence = sequence + self.attention(normed, causal=self.causal)
        return sequence + self.feed_forward(self.feed_forward_norm(sequence))


class CrossBlock(nn.Module):
    """Pre-norm block: one grid attends to another within aligned square windows, then feed-forward.

    Both grids cover the same picture at different densities. Windows cut both into the same number
    of rows and columns; a position sees the context of its own window only.
    """

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.context_norm = nn.RMSNorm(width)
        self.attention = Attention(width, head_dim)
        self.feed_forward_norm = nn.RMSNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(
        self,
        grid: Float[Tensor, "n y x d"],
        context: Float[Tensor, "n cy cx d"],
        window_grid: tuple[int, int] = (1, 1),
    ) -> Float[Tensor, "n y x d"]:
        """Attends from `grid` to `context` in `window_grid` windows (rows, columns)."""
        rows, columns = window_grid
        cut = "n (r y) (q x) d -> (n r q) (y x) d"
        joined = "(n r q) (y x) d -> n (r y) (q x) d"
        queries = rearrange(self.attention_norm(grid), cut, r=rows, q=columns)
        sources = rearrange(self.context_norm(context), cut, r=rows, q=columns)
        mixed = self.attention(queries, sources)
        size = {"r": rows, "q": columns, "y": grid.shape[1] // rows, "x": grid.shape[2] // columns}
        grid = grid + rearrange(mixed, joined, **size)
        return grid + self.feed_forward(self.feed_forward_norm(grid))


class PositionEmbedding(nn.Module):
    """Positions as sines and cosines of their coordinates, mixed by a learned linear map.

    Coordinates are in latent cells (and latent frames), so a map learned on one grid carries over
    to a larger one.

    Args:
        num_axes: Number of coordinates per position.
        width: Model width d.
        max_period: Longest wavelength, in cells.
    """

    frequencies: Tensor

    def __init__(
        self, num_axes: int, width: int, *, num_frequencies: int = 16, max_period: float = 128.0
    ) -> None:
        super().__init__()
        exponents = torch.linspace(0, 1, num_frequencies)
        shortest = 2.0
        periods = shortest * (max_period / shortest) ** exponents
        self.register_buffer("frequencies", 2 * math.pi / periods, persistent=False)
        self.mix = nn.Linear(2 * num_axes * num_frequencies, width, bias=False)
        nn.init.normal_(self.mix.weight, std=POSITION_STD / math.sqrt(num_axes * num_frequencies))

    def forward(self, coordinates: Float[Tensor, "... a"]) -> Float[Tensor, "... d"]:
        """Embeds `coordinates` given in latent cells.

        The result is float32 also under autocast, and with it the sum it enters: what blocks add up
        keeps its digits, and fused normalisation applies.
        """
        angles = coordinates.unsqueeze(-1) * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return self.mix(rearrange(waves, "... a f -> ... (a f)")).float()


def _works_in_pieces(features: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return features.device.type == "cpu"


def grid_coordinates(
    rows: int, columns: int, *, cells_per_step: int = 1, device: torch.device | None = None
) -> Float[Tensor, "y x 2"]:
    """Centres of a grid's positions in latent cells, each position covering `cells_per_step`²."""

    def centres(count: int) -> Tensor:
        return (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * cells_per_step

    return torch.stack(torch.meshgrid(centres(rows), centres(columns), indexing="ij"), dim=-1)


def initialise_linear_layers(module: nn.Module) -> None:
    """Draws all linear weights in `module` so that each layer keeps the variance of its input.

    PyTorch's default loses two thirds of it per layer, which cost about 1 dB after 200 steps of the
    tiny preset (LOG.md). Position maps keep their own scale.
    """
    own_scale = {id(part.mix) for part in module.modules() if isinstance(part, PositionEmbedding)}
    for part in module.modules():
        if isinstance(part, nn.Linear) and id(part) not in own_scale:
            nn.init.normal_(part.weight, std=part.in_features**-0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
