"""What the benchmark runs: both encoders with random weights, random words and random pixels.

Speed does not depend on what the weights and the words are, only on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sweettok.benchmarking.restatement import GraphConfig, PlainEncoding
from sweettok.config import SweetTokConfig
from sweettok.geometry import ClipGeometry
from sweettok.lexicon import Lexicon, Vocabulary
from sweettok.model import SweetTok
from sweettok.patches import NUM_CHANNELS


def encoder_of(
    side: str, config: SweetTokConfig, lexicon: Lexicon, graph: GraphConfig
) -> Callable[[Tensor], Any]:
    """The encoding of one side, in inference mode, as a function of a video in [-1, 1]."""
    if side == "ours":
        return SweetTok(config, lexicon).eval().encode
    return PlainEncoding(config, lexicon, graph).eval()


def random_video(
    geometry: ClipGeometry, *, batch: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "b c t h w"]:
    """Noise in [-1, 1]."""
    size = (geometry.num_frames, geometry.height_px, geometry.width_px)
    return torch.rand(batch, NUM_CHANNELS, *size, device=device) * 2 - 1


def random_lexicon(config: SweetTokConfig, graph: GraphConfig) -> Lexicon:
    """As many words as `config` asks for, with about as many random edges as `graph` says."""
    return Lexicon(
        name="random",
        spatial=_random_vocabulary(
            ("noun", "adjective"), config.num_spatial_words, config, graph.num_spatial_edges
        ),
        temporal=_random_vocabulary(
            ("verb", "adverb"), config.num_temporal_words, config, graph.num_temporal_edges
        ),
        text_encoder="random",
    )


def _random_vocabulary(
    parts: tuple[str, str], num_words: int, config: SweetTokConfig, num_edges: int
) -> Vocabulary:
    generator = torch.Generator().manual_seed(num_words)
    half = num_words // 2
    pairs = torch.stack(
        [
            torch.randint(0, half, (num_edges,), generator=generator),
            torch.randint(half, num_words, (num_edges,), generator=generator),
        ]
    )
    edges = torch.unique(pairs, dim=1)
    return Vocabulary(
        words=tuple(f"{parts[0]}{index}" for index in range(num_words)),
        parts_of_speech=(parts[0],) * half + (parts[1],) * (num_words - half),
        embeddings=torch.randn(num_words, config.word_dim, generator=generator),
        edges=edges,
        edge_counts=torch.ones(edges.shape[1], dtype=torch.int64),
    )
