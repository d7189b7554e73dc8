"""Which of a video's words say most about it.

A word's weight is how often it occurs times how few clips have it: the few codes that every clip
has (grey ground, say) would otherwise be every clip's first words.

Source: Spärck Jones, "A statistical interpretation of term specificity", 1972 (the inverse clip
frequency); Salton and Buckley, "Term-weighting approaches", 1988 (its product with the logarithm of
the count).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pipeline.recognition.videos import LabelledVideos, Video
from sweettok.model import SweetTok


@dataclass(frozen=True, eq=False, repr=False)
class WordTable:
    """One codebook's words and how much it says that a clip has one.

    Attributes:
        words: The word of each code.
        rarity: ln((1 + clips) / (1 + clips with the word)), at least 0; 0 for what all clips have.
        codes: The projected code vectors.
        embeddings: The words' text embeddings.
    """

    words: tuple[str, ...]
    rarity: Float[np.ndarray, " v"]
    codes: Float[np.ndarray, "v e"]
    embeddings: Float[np.ndarray, "v f"]

    def weights(self, ids: Int[np.ndarray, " n"]) -> Float[np.ndarray, " v"]:
        """The tf-idf of every word of the codebook in a clip with these tokens."""
        counts = np.bincount(ids, minlength=len(self.words))
        weighted: Float[np.ndarray, " v"] = np.log1p(counts) * self.rarity
        return weighted

    def ranked(self, ids: Int[np.ndarray, " n"], max_words: int) -> tuple[str, ...]:
        """The words that occur, the most telling first (ties by id), at most so many."""
        present = np.unique(ids)
        weights = self.weights(ids)[present]
        order = np.lexsort((present, -weights))[:max_words]
        return tuple(self.words[index] for index in present[order])


@dataclass(frozen=True, eq=False, repr=False)
class WordTables:
    """Both codebooks.

    Attributes:
        spatial: Nouns and adjectives.
        temporal: Verbs and adverbs.
    """

    spatial: WordTable
    temporal: WordTable

    @classmethod
    def of(cls, model: SweetTok, videos: LabelledVideos) -> WordTables:
        """The tables of a tokenizer, words weighted by how common they are in a dataset."""
        parts = (
            (model.spatial_quantizer, model.lexicon.spatial, videos.spatial_clips),
            (model.temporal_quantizer, model.lexicon.temporal, videos.temporal_clips),
        )
        spatial, temporal = (
            WordTable(
                words=quantizer.codebook.words,
                rarity=rarity(num_clips_with, videos.num_clips),
                codes=quantizer.codebook.current_codes().detach().cpu().numpy(),
                embeddings=vocabulary.embeddings.numpy(),
            )
            for quantizer, vocabulary, num_clips_with in parts
        )
        return cls(spatial, temporal)

    def ranked(self, video: Video, max_spatial: int, max_temporal: int) -> VideoWords:
        """The most telling words of a video."""
        return VideoWords(
            self.spatial.ranked(video.spatial, max_spatial),
            self.temporal.ranked(video.temporal, max_temporal),
        )


@dataclass(frozen=True)
class VideoWords:
    """A video in words, the most telling first."""

    spatial: Sequence[str]
    temporal: Sequence[str]


def rarity(num_clips_with: Int[np.ndarray, " v"], num_clips: int) -> Float[np.ndarray, " v"]:
    """How much it says that a clip has a word: ln((1 + n) / (1 + n with it))."""
    found: Float[np.ndarray, " v"] = np.log((1 + num_clips) / (1 + num_clips_with))
    return found
