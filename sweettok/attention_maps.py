"""Where the encoder's queries look: the cells of the latent frames that each token was read from.

    maps = attention_maps(tokenizer, video)
    maps.spatial[0, 5]      # [y, x]: what the first clip's sixth spatial token looked at

Nothing of encoding knows of this: for one pass, what the query blocks are given is noted from
outside, and the weights are computed from it once more.

A map says where a query reads, not all that reaches it: before they are read, the cells of a latent
frame have attended to each other, and those of the tubes to earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sweettok.attention import Attention
from sweettok.encoder import QueryReader, window_grid
from sweettok.layout import token_layout
from sweettok.model import SweetTok

_Seen = tuple[Tensor, Tensor]


@dataclass(frozen=True, repr=False)
class AttentionMaps:
    """How much each token looks at each latent cell, mean over heads and layers.

    Attributes:
        spatial: float [b, s, y, x] over the cells of the latent frames that spatial queries read
            (their mean, or the first one).
        temporal: float [b, m, y, x] over the cells of each token's own tube.

    Each map is at least 0 and sums to 1; it is 0 outside its query's window.
    """

    spatial: Float[Tensor, "b s y x"]
    temporal: Float[Tensor, "b m y x"]

    def __repr__(self) -> str:
        return (
            f"AttentionMaps(spatial={list(self.spatial.shape)}, "
            f"temporal={list(self.temporal.shape)})"
        )


@torch.no_grad()
def attention_maps(tokenizer: SweetTok, video: Float[Tensor, "b c t h w"]) -> AttentionMaps:
    """The maps of all tokens of `video`, in the order of `tokenizer.encode(video)`.

    Args:
        tokenizer: In inference mode, not compiled.
        video: Clips or single frames (which have no temporal tokens), values in [-1, 1].

    Raises:
        ShapeError: The tokenizer takes no such clips.
    """
    num_frames, height_px, width_px = video.shape[2:]
    geometry = tokenizer.config.geometry.of_size(
        num_frames=num_frames, height_px=height_px, width_px=width_px
    )
    layout = token_layout(tokenizer.config, geometry)
    encoder = tokenizer.encoder
    with _noted(encoder.spatial_queries) as spatial, _noted(encoder.temporal_queries) as temporal:
        encoder(video)
    looks = _maps(encoder.spatial_queries, spatial, layout.latent_grid, layout.spatial_grid)
    if not layout.num_tubes:
        return AttentionMaps(looks, looks[:, :0])
    by_tube = _maps(encoder.temporal_queries, temporal, layout.latent_grid, layout.temporal_grid)
    return AttentionMaps(
        looks, rearrange(by_tube, "(b k) n y x -> b (k n) y x", k=layout.num_tubes)
    )


@contextmanager
def _noted(reader: QueryReader) -> Iterator[list[_Seen]]:
    """Notes what the attention of every layer is given, in the order of the layers."""
    seen: list[_Seen] = []

    def note(_: Attention, given: tuple[Any, ...]) -> None:
        queries, cells = given
        seen.append((queries, cells))

    handles = [layer.register_forward_pre_hook(note) for layer in _attentions(reader)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _attentions(reader: QueryReader) -> list[Attention]:
    """That of each layer, in their order."""
    return [part for part in reader.blocks.modules() if isinstance(part, Attention)]


def _maps(
    reader: QueryReader,
    seen: list[_Seen],
    latent_grid: tuple[int, int],
    query_grid: tuple[int, int],
) -> Float[Tensor, "n q y x"]:
    """Mean over heads and layers, laid out over the whole grid of cells."""
    weights = torch.stack(
        [
            layer.weights(queries, cells).mean(dim=1)
            for layer, (queries, cells) in zip(_attentions(reader), seen, strict=True)
        ]
    ).mean(dim=0)
    windows = window_grid(reader.queries, query_grid)
    return _over_whole_grid(weights, latent_grid, query_grid, windows)


def _over_whole_grid(
    weights: Float[Tensor, "m i j"],
    latent_grid: tuple[int, int],
    query_grid: tuple[int, int],
    windows: tuple[int, int],
) -> Float[Tensor, "n q y x"]:
    """Puts the weights of each window's queries where its cells lie."""
    rows, columns = windows
    size = {"r": rows, "q": columns, "i": query_grid[0] // rows, "y": latent_grid[0] // rows}
    cut = rearrange(
        weights, "(n r q) (i j) (y x) -> r q n i j y x", **size, x=latent_grid[1] // columns
    )
    height, width = cut.shape[-2:]
    whole = cut.new_zeros(*cut.shape[:-2], *latent_grid)
    for row in range(rows):
        for column in range(columns):
            down, across = row * height, column * width
            whole[row, column, ..., down : down + height, across : across + width] = cut[
                row, column
            ]
    return rearrange(whole, "r q n i j y x -> n (r i q j) y x")
