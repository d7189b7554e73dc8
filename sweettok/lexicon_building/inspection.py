"""What a vocabulary looks like: its parts of speech, its graph, which words lie near which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sweettok.errors import LexiconError
from sweettok.vocabulary import Vocabulary

_LONGEST_BAR = 40
_NUM_SHOWN = 12


@dataclass(frozen=True)
class PartReport:
    """One part of speech.

    Attributes:
        part_of_speech: Its name.
        num_words: Number of words.
        num_isolated: Words without an edge.
        mean_degree: Mean number of edges of a word.
        median_degree: Median number of edges of a word (the lower of two).
        max_degree: Edges of the word that has the most.
        best_linked: That word and the next ones.
        isolated: The most frequent words without an edge.
    """

    part_of_speech: str
    num_words: int
    num_isolated: int
    mean_degree: float
    median_degree: int
    max_degree: int
    best_linked: tuple[str, ...]
    isolated: tuple[str, ...]


@dataclass(frozen=True)
class VocabularyReport:
    """One vocabulary.

    Attributes:
        num_words: Number of words.
        num_edges: Number of edges.
        parts: Its parts of speech.
        degree_histogram: For each range of degrees, lowest and highest, the number of words.
        nearest: For each word asked, the nearest other words and their cosines, nearest first.
    """

    num_words: int
    num_edges: int
    parts: tuple[PartReport, ...]
    degree_histogram: tuple[tuple[int, int, int], ...]
    nearest: dict[str, tuple[tuple[str, float], ...]]

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield f"{self.num_words:,} words, {self.num_edges:,} edges"
        for part in self.parts:
            yield (
                f"  {part.num_words:,} {part.part_of_speech}s: edges per word "
                f"{part.mean_degree:.1f} mean, {part.median_degree} median, {part.max_degree:,} "
                f"most; {part.num_isolated:,} without an edge"
            )
            yield f"    most linked: {', '.join(part.best_linked)}"
            if part.isolated:
                yield f"    without an edge: {', '.join(part.isolated)}"
        yield "  edges  words"
        most = max(count for _, _, count in self.degree_histogram)
        for low, high, count in self.degree_histogram:
            label = f"{low}" if low == high else f"{low}–{high}"
            bar = "█" * -(-count * _LONGEST_BAR // most)
            yield f"  {label:>11}  {count:>6,}  {bar}".rstrip()
        if self.nearest:
            yield "  nearest words (cosine)"
        for word, neighbours in self.nearest.items():
            shown = ", ".join(f"{near} {cosine:.2f}" for near, cosine in neighbours)
            yield f"    {word}: {shown}"


def inspect_vocabulary(
    vocabulary: Vocabulary,
    queries: Sequence[str],
    *,
    num_neighbours: int,
    vectors: Float[Tensor, "words dim"] | None = None,
) -> VocabularyReport:
    """Counts words and edges and finds the words nearest to `queries`.

    Args:
        vocabulary: The words.
        queries: Words of the vocabulary.
        num_neighbours: How many nearest words to tell for each.
        vectors: What to compare, such as a trained codebook's codes; the text embeddings if None.

    Raises:
        LexiconError: A query is not in the vocabulary.
    """
    degrees = torch.bincount(vocabulary.edges.flatten(), minlength=vocabulary.num_words)
    return VocabularyReport(
        num_words=vocabulary.num_words,
        num_edges=vocabulary.num_edges,
        parts=tuple(
            _part_report(vocabulary, part, degrees)
            for part in dict.fromkeys(vocabulary.parts_of_speech)
        ),
        degree_histogram=_histogram(degrees),
        nearest=nearest_words(
            vocabulary.words,
            vocabulary.embeddings if vectors is None else vectors,
            queries,
            num_neighbours=num_neighbours,
        ),
    )


def sample_words(vocabulary: Vocabulary, num_words: int) -> list[str]:
    """Words spread evenly over the more frequent half of each part of speech."""
    parts = list(dict.fromkeys(vocabulary.parts_of_speech))
    sampled = []
    for part in parts:
        rows = [row for row, name in enumerate(vocabulary.parts_of_speech) if name == part]
        step = max(len(rows) // 2 // -(-num_words // len(parts)), 1)
        sampled += [vocabulary.words[row] for row in rows[::step]][: -(-num_words // len(parts))]
    return sampled[:num_words]


def nearest_words(
    words: Sequence[str],
    vectors: Float[Tensor, "words dim"],
    queries: Sequence[str],
    *,
    num_neighbours: int,
) -> dict[str, tuple[tuple[str, float], ...]]:
    """For each query, the other words of the highest cosine, ties in the order of `words`.

    Raises:
        LexiconError: A query is not among `words`.
    """
    index = {word: row for row, word in enumerate(words)}
    missing = [query for query in queries if query not in index]
    if missing:
        raise LexiconError(f"{missing[0]!r} is no word of this codebook ({len(words)} words)")
    unit = functional.normalize(vectors.float(), dim=1)
    nearest = {}
    for query in queries:
        cosines = unit @ unit[index[query]]
        cosines[index[query]] = -torch.inf
        order = torch.argsort(cosines, descending=True, stable=True)[: len(words) - 1]
        nearest[query] = tuple(
            (words[row], float(cosines[row])) for row in order[:num_neighbours].tolist()
        )
    return nearest


def _part_report(vocabulary: Vocabulary, part: str, degrees: Int[Tensor, " words"]) -> PartReport:
    rows = [row for row, name in enumerate(vocabulary.parts_of_speech) if name == part]
    own = degrees[rows]
    best = torch.argsort(own, descending=True, stable=True)[:_NUM_SHOWN].tolist()
    isolated = [vocabulary.words[row] for row in rows if not degrees[row]]
    return PartReport(
        part_of_speech=part,
        num_words=len(rows),
        num_isolated=len(isolated),
        mean_degree=float(own.float().mean()),
        median_degree=int(own.median()),
        max_degree=int(own.max()),
        best_linked=tuple(vocabulary.words[rows[position]] for position in best if own[position]),
        isolated=tuple(isolated[:_NUM_SHOWN]),
    )


def _histogram(degrees: Int[Tensor, " words"]) -> tuple[tuple[int, int, int], ...]:
    """Words per range of degrees: 0, 1, 2–3, 4–7 and so on, up to the highest degree."""
    rows = []
    low, high = 0, 0
    while low <= int(degrees.max()):
        rows.append((low, high, int(((degrees >= low) & (degrees <= high)).sum())))
        low, high = high + 1, max(2 * high + 1, 1)
    return tuple(rows)
