"""Models and lexicons small enough that a test can afford them, with every part present."""

from __future__ import annotations

from typing import Any

import torch

from sweettok import Lexicon, SweetTokConfig
from sweettok.vocabulary import Vocabulary


def random_vocabulary(
    first: str, second: str, num_words: int, word_dim: int, seed: int
) -> Vocabulary:
    """Half words of one part of speech, half of the other, random embeddings, random edges."""
    generator = torch.Generator().manual_seed(seed)
    half = num_words // 2
    pairs = torch.stack(
        [
            torch.randint(0, half, (3 * num_words,), generator=generator),
            torch.randint(half, num_words, (3 * num_words,), generator=generator),
        ]
    )
    edges = torch.unique(pairs, dim=1)
    return Vocabulary(
        words=tuple(f"{first}{index}" for index in range(num_words)),
        parts_of_speech=(first,) * half + (second,) * (num_words - half),
        embeddings=torch.randn(num_words, word_dim, generator=generator),
        edges=edges,
        edge_counts=torch.ones(edges.shape[1], dtype=torch.int64),
    )


def random_lexicon(*, num_spatial: int, num_temporal: int, word_dim: int) -> Lexicon:
    """A lexicon of random words."""
    return Lexicon(
        name="random",
        spatial=random_vocabulary("noun", "adjective", num_spatial, word_dim, seed=1),
        temporal=random_vocabulary("verb", "adverb", num_temporal, word_dim, seed=2),
        text_encoder="random",
    )


def tiny_config(**changes: Any) -> SweetTokConfig:
    """The config that fits `random_lexicon(num_spatial=96, num_temporal=64, word_dim=24)`."""
    values: dict[str, Any] = {
        "geometry": {"num_frames": 9, "height_px": 32, "width_px": 48},
        "width": 32,
        "head_dim": 16,
        "spatial_queries": {"cells_per_query": 1, "window_queries": 2},
        "temporal_queries": {"cells_per_query": 2, "window_queries": 1},
        "encoder": {"spatial_depth": 1, "temporal_depth": 1},
        "decoder": {"spatial_depth": 1, "temporal_depth": 1, "joint_depth": 1},
        "quantizer": {"code_dim": 8, "graph_hidden_dim": 16},
        "num_spatial_words": 96,
        "num_temporal_words": 64,
        "word_dim": 24,
    }
    return SweetTokConfig.from_mapping(values | changes)
