"""The words of the baselines' codebooks, taken from a lexicon of both kinds of words."""

from __future__ import annotations

import dataclasses

import torch

from sweettok.config import SweetTokConfig
from sweettok.errors import LexiconError
from sweettok.lexicon import Lexicon
from sweettok.vocabulary import Vocabulary


def union_size(config: SweetTokConfig) -> int:
    """Words of one vocabulary for all tokens that carries as many bits per clip as two.

    The weighted geometric mean of both sizes, rounded: equal sizes give just that size.
    """
    return round(2 ** (config.bits_per_clip / config.num_tokens))


def union_vocabulary(lexicon: Lexicon, num_words: int) -> Vocabulary:
    """The most frequent words of all four parts of speech, with the edges of both graphs.

    Both halves keep the proportion of the lexicon. A word that is in both (a noun and a verb) is
    taken once, from the spatial half.

    Raises:
        LexiconError: The lexicon has not enough different words.
    """
    total = lexicon.spatial.num_words + lexicon.temporal.num_words
    num_spatial = round(num_words * lexicon.spatial.num_words / total)
    spatial = lexicon.spatial.subset(num_spatial)
    others = _without(lexicon.temporal, frozenset(spatial.words))
    temporal = others.subset(num_words - num_spatial)
    counted = bool(spatial.word_counts and temporal.word_counts)
    return dataclasses.replace(
        spatial,
        words=spatial.words + temporal.words,
        parts_of_speech=spatial.parts_of_speech + temporal.parts_of_speech,
        embeddings=torch.cat([spatial.embeddings, temporal.embeddings]),
        edges=torch.cat([spatial.edges, temporal.edges + spatial.num_words], dim=1),
        edge_counts=torch.cat([spatial.edge_counts, temporal.edge_counts]),
        word_counts=spatial.word_counts + temporal.word_counts if counted else (),
    )


def nouns_and_adjectives(lexicon: Lexicon, num_words: int) -> Vocabulary:
    """The most frequent nouns and adjectives.

    Raises:
        LexiconError: The lexicon has fewer than `num_words`.
    """
    if num_words > lexicon.spatial.num_words:
        raise LexiconError(
            f"plain language needs {num_words} nouns and adjectives for the temporal tokens, "
            f"lexicon {lexicon.name!r} has {lexicon.spatial.num_words}; "
            "give build_variant a lexicon of more words, or lower num_temporal_words"
        )
    return lexicon.spatial.subset(num_words)


def _without(vocabulary: Vocabulary, words: frozenset[str]) -> Vocabulary:
    kept = [index for index, word in enumerate(vocabulary.words) if word not in words]
    new_index = torch.full((vocabulary.num_words,), -1, dtype=torch.int64)
    new_index[torch.tensor(kept, dtype=torch.int64)] = torch.arange(len(kept))
    edges = new_index[vocabulary.edges]
    stays = (edges >= 0).all(dim=0)
    counts = vocabulary.word_counts
    return dataclasses.replace(
        vocabulary,
        words=tuple(vocabulary.words[index] for index in kept),
        parts_of_speech=tuple(vocabulary.parts_of_speech[index] for index in kept),
        embeddings=vocabulary.embeddings[kept],
        edges=edges[:, stays],
        edge_counts=vocabulary.edge_counts[stays],
        word_counts=tuple(counts[index] for index in kept) if counts else (),
    )
