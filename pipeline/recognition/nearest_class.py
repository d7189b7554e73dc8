"""Readers without a language model: the class whose examples lie nearest.

A class is the mean of its examples' unit vectors, the answer the class with the largest cosine.

Source: nearest class means as in Snell, Swersky and Zemel, "Prototypical networks for few-shot
learning", arXiv:1703.05175, section 2.2.
Differs: nothing is learned; vectors are those of words.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pydantic
from jaxtyping import Float, Int

from pipeline.recognition.episodes import Episode
from pipeline.recognition.videos import Video
from pipeline.recognition.words import WordTable, WordTables
from pipeline.records import stable_id
from sweettok.strict_config import StrictConfig

Codebooks = Literal["both", "spatial", "temporal"]
_SMALLEST_LENGTH = 1e-12


class BagOfWordsConfig(StrictConfig):
    """Nearest class by the words that occur: cosine of tf-idf.

    Attributes:
        kind: "bag_of_words".
        name: What the table calls it; null makes one up.
        codebooks: Whose words count.
    """

    kind: Literal["bag_of_words"] = "bag_of_words"
    name: str | None = pydantic.Field(default=None, min_length=1)
    codebooks: Codebooks = "both"

    @property
    def label(self) -> str:
        """What the table calls it."""
        return self.name or f"bag of words{_of(self.codebooks)}"


class CodeVectorsConfig(StrictConfig):
    """Nearest class by what the words mean: cosine of mean vectors, so that near words are near.

    Attributes:
        kind: "code_vectors".
        name: What the table calls it; null makes one up.
        vectors: "codes" takes the projected codes that the tokenizer learned, "text" the frozen
            text embeddings behind them.
        codebooks: Whose words count.
    """

    kind: Literal["code_vectors"] = "code_vectors"
    name: str | None = pydantic.Field(default=None, min_length=1)
    vectors: Literal["codes", "text"] = "codes"
    codebooks: Codebooks = "both"

    @property
    def label(self) -> str:
        """What the table calls it."""
        what = {"codes": "code vectors", "text": "text embeddings"}[self.vectors]
        return self.name or f"{what}{_of(self.codebooks)}"


def _of(codebooks: Codebooks) -> str:
    return "" if codebooks == "both" else f", {codebooks}"


class NearestClassReader(abc.ABC):
    """Answers with the nearest class mean.

    Args:
        videos: The videos that episodes name.
        tables: Their words.
        codebooks: Whose words count.
        identity: See `pipeline.recognition.readers.Reader`.
    """

    facts: Mapping[str, Any] = {}

    def __init__(
        self, videos: Sequence[Video], tables: WordTables, codebooks: Codebooks, identity: str
    ) -> None:
        self.identity = identity
        self._videos = videos
        self._tables = [
            (name, getattr(tables, name))
            for name in ("spatial", "temporal")
            if codebooks in ("both", name)
        ]

    @abc.abstractmethod
    def vector(self, table: WordTable, ids: Int[np.ndarray, " n"]) -> Float[np.ndarray, " f"]:
        """A video's vector in one codebook, of any length."""

    def answer(self, episode: Episode) -> list[int | None]:
        """The nearest class of each question (ties to the first)."""
        support = self._vectors(episode.support.ravel())
        means = support.reshape(*episode.support.shape, -1).mean(axis=1)
        scores = self._vectors(episode.asked) @ _unit(means).T
        return [int(best) for best in scores.argmax(axis=1)]

    def example(self, episode: Episode) -> None:  # noqa: ARG002
        """There is no text to show."""
        return

    def _vectors(self, positions: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n f"]:
        """Both codebooks' unit vectors side by side: neither outweighs the other."""
        rows = []
        for position in positions:
            video = self._videos[position]
            parts = [self.vector(table, getattr(video, name)) for name, table in self._tables]
            rows.append(np.concatenate([_unit(part) for part in parts]))
        return np.stack(rows)


class BagOfWordsReader(NearestClassReader):
    """Nearest class by the words that occur."""

    def __init__(
        self, videos: Sequence[Video], tables: WordTables, config: BagOfWordsConfig
    ) -> None:
        identity = stable_id("bag of words", config.codebooks)
        super().__init__(videos, tables, config.codebooks, identity)

    def vector(self, table: WordTable, ids: Int[np.ndarray, " n"]) -> Float[np.ndarray, " f"]:
        """The tf-idf of all words."""
        return table.weights(ids)


class CodeVectorsReader(NearestClassReader):
    """Nearest class by the mean vector of the words, weighted by their tf-idf.

    The mean of all words of the codebook is taken off first: what all words share says nothing.
    """

    def __init__(
        self, videos: Sequence[Video], tables: WordTables, config: CodeVectorsConfig
    ) -> None:
        identity = stable_id("code vectors", config.vectors, config.codebooks)
        super().__init__(videos, tables, config.codebooks, identity)
        self._centred = {
            id(table): _centred(table.codes if config.vectors == "codes" else table.embeddings)
            for _, table in self._tables
        }

    def vector(self, table: WordTable, ids: Int[np.ndarray, " n"]) -> Float[np.ndarray, " f"]:
        """The weighted sum of the words' vectors; its length does not matter."""
        present = np.unique(ids)
        found: Float[np.ndarray, " f"] = (
            table.weights(ids)[present] @ self._centred[id(table)][present]
        )
        return found


def _centred(vectors: Float[np.ndarray, "v f"]) -> Float[np.ndarray, "v f"]:
    wide = vectors.astype(np.float64)
    return wide - wide.mean(axis=0)


def _unit(vectors: Float[np.ndarray, "*n f"]) -> Float[np.ndarray, "*n f"]:
    """At length 1; a vector of zeros (no telling word at all) stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, _SMALLEST_LENGTH)
