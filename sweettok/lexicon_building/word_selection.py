"""Chooses the words of a vocabulary: the best candidates that are linked to each other in captions.

A vocabulary joins *heads* (nouns or verbs) and their *modifiers* (adjectives or adverbs). A word
that none of the chosen words links to gives way to the next candidate that some do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sweettok.lexicon_building.word_candidates import RankedWord


class ChosenWords(NamedTuple):
    """The words of one vocabulary, heads first, each part of speech most frequent first.

    `edges` maps index pairs (i, j), i < j, to the number of times the two words occurred together.
    """

    words: tuple[RankedWord, ...]
    edges: Mapping[tuple[int, int], int]

    @property
    def num_unlinked(self) -> int:
        """Number of words without an edge."""
        return len(self.words) - len({index for edge in self.edges for index in edge})


def choose_words(
    heads: Sequence[RankedWord],
    modifiers: Sequence[RankedWord],
    pairs: Mapping[tuple[str, str], int],
    *,
    num_heads: int,
    num_modifiers: int,
) -> ChosenWords:
    """Chooses the best words of both parts of speech, those with an edge before those without.

    Args:
        heads: Ranked nouns or verbs, none of them among the modifiers.
        modifiers: Ranked adjectives or adverbs.
        pairs: How often (modifier, head) occurred together.
        num_heads: Number of heads to choose, from 1 to the number of candidates.
        num_modifiers: Number of modifiers to choose, from 1 to the number of candidates.
    """
    assert 1 <= num_heads <= len(heads)
    assert 1 <= num_modifiers <= len(modifiers)
    postponed: set[RankedWord] = set()
    while True:
        chosen_heads = _first(heads, num_heads, postponed)
        chosen_modifiers = _first(modifiers, num_modifiers, postponed)
        chosen = ChosenWords(
            (*chosen_heads, *chosen_modifiers), _edges(chosen_heads, chosen_modifiers, pairs)
        )
        linked = {index for edge in chosen.edges for index in edge}
        unlinked = {word for index, word in enumerate(chosen.words) if index not in linked}
        if unlinked <= postponed:
            return chosen
        postponed |= unlinked


def one_part_of_speech_each(
    heads: Sequence[RankedWord], modifiers: Sequence[RankedWord]
) -> tuple[list[RankedWord], list[RankedWord]]:
    """A word that is both ("orange") stays where it is used more often."""
    head_count = {item.word: item.num_uses for item in heads}
    modifier_count = {item.word: item.num_uses for item in modifiers}
    return (
        [item for item in heads if item.num_uses >= modifier_count.get(item.word, -1)],
        [item for item in modifiers if item.num_uses > head_count.get(item.word, -1)],
    )


def _first(
    ranked: Iterable[RankedWord], wanted: int, postponed: set[RankedWord]
) -> list[RankedWord]:
    """The first `wanted` of `ranked`, the postponed ones last, in the order of `ranked`."""
    ranked = list(ranked)
    kept = [item for item in ranked if item not in postponed]
    kept += [item for item in ranked if item in postponed]
    return sorted(kept[:wanted], key=lambda item: (-item.score, item.word))


def _edges(
    heads: Sequence[RankedWord],
    modifiers: Sequence[RankedWord],
    pairs: Mapping[tuple[str, str], int],
) -> dict[tuple[int, int], int]:
    head_index = {item.word: index for index, item in enumerate(heads)}
    modifier_index = {item.word: len(heads) + index for index, item in enumerate(modifiers)}
    edges = {
        (head_index[head], modifier_index[modifier]): count
        for (modifier, head), count in pairs.items()
        if head in head_index and modifier in modifier_index
    }
    return dict(sorted(edges.items()))
