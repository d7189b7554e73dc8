"""Chooses the words of a vocabulary: visual, frequent, and linked to each other in captions.

A vocabulary joins *heads* (nouns or verbs) and their *modifiers* (adjectives or adverbs). A word is
ranked by how often WordNet's sense-tagged texts and the captions use it in a visual sense; a word
that none of the chosen words links to gives way to the next one that some do.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sweettok.errors import LexiconError
from sweettok.lexicon_building.caption_statistics import CaptionStatistics
from sweettok.lexicon_building.visual_words import is_suitable, visual_share
from sweettok.lexicon_building.wordnet import WordNet

logger = logging.getLogger(__name__)

# Most words have an abstract sense beside the visual one; most adverbs are not visual at all.
_LEAST_VISUAL_SHARE = {"noun": 0.3, "verb": 0.3, "adjective": 0.25, "adverb": 0.5}
# A noun whose adjectives tell nothing visible ("lasting effect", "naval officer") is no visual
# noun; an adverb is one of motion if a good part of its verbs can be seen.
_LEAST_VISUAL_COMPANY = {"noun": 0.15, "adverb": 0.3}


class RankedWord(NamedTuple):
    """A candidate: `score` orders it, `num_uses` counts its uses (of any sense)."""

    word: str
    part_of_speech: str
    score: float
    num_uses: int


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


def rank_candidates(
    wordnet: WordNet, statistics: CaptionStatistics, part_of_speech: str, *, min_count: int
) -> list[RankedWord]:
    """All words that may be chosen, best first, ties in alphabetical order.

    Args:
        wordnet: The database.
        statistics: What the captions say.
        part_of_speech: One of noun, verb, adjective, adverb.
        min_count: Least number of occurrences in the captions, at least 1.
    """
    company = visual_company(wordnet, statistics, part_of_speech)
    least_company = _LEAST_VISUAL_COMPANY.get(part_of_speech, 0.0)
    ranked = []
    for word in wordnet.words(part_of_speech):
        num_captions = statistics.words[part_of_speech, word]
        if num_captions < min_count or company.get(word, 1.0) < least_company:
            continue
        share = visual_share(wordnet, part_of_speech, word)
        if share < _LEAST_VISUAL_SHARE[part_of_speech] or not is_suitable(
            wordnet, part_of_speech, word
        ):
            continue
        num_tags = sum(sense.tag_count for sense in wordnet.senses[part_of_speech, word])
        score = math.log1p(share * num_tags) + math.log1p(share * num_captions)
        ranked.append(RankedWord(word, part_of_speech, score, num_tags + num_captions))
    return sorted(ranked, key=lambda item: (-item.score, item.word))


def visual_company(
    wordnet: WordNet, statistics: CaptionStatistics, part_of_speech: str
) -> dict[str, float]:
    """For each noun (adverb), the share in [0, 1] of its adjectives (verbs) that are visual.

    Smoothed towards one half for rare words. Empty for adjectives and verbs.
    """
    if part_of_speech == "noun":
        partner_part = "adjective"
        partners = [(noun, word, n) for (word, noun), n in statistics.adjective_noun.items()]
    elif part_of_speech == "adverb":
        partner_part = "verb"
        partners = [(word, verb, n) for (word, verb), n in statistics.adverb_verb.items()]
    else:
        return {}
    is_visual = {
        word: visual_share(wordnet, partner_part, word) >= _LEAST_VISUAL_SHARE[partner_part]
        for word in wordnet.words(partner_part)
        if any(word in sense.synset.words for sense in wordnet.senses[partner_part, word])
    }
    total: Counter[str] = Counter()
    visual: Counter[str] = Counter()
    for word, partner, count in partners:
        if partner in is_visual:
            total[word] += count
            visual[word] += count * is_visual[partner]
    return {word: (visual[word] + 1) / (total[word] + 2) for word in total}


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
        heads: Ranked nouns or verbs.
        modifiers: Ranked adjectives or adverbs.
        pairs: How often (modifier, head) occurred together.
        num_heads: Number of heads to choose, at least 1.
        num_modifiers: Number of modifiers to choose, at least 1.

    Raises:
        LexiconError: There are fewer candidates than asked.
    """
    heads, modifiers = _one_part_of_speech_each(heads, modifiers)
    for ranked, wanted in ((heads, num_heads), (modifiers, num_modifiers)):
        if len(ranked) < wanted:
            part = ranked[0].part_of_speech if ranked else "word"
            raise LexiconError(
                f"{wanted} {part}s asked, the sources give {len(ranked)}; ask for fewer, lower "
                "--min-count or give more --captions"
            )
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


def _one_part_of_speech_each(
    heads: Sequence[RankedWord], modifiers: Sequence[RankedWord]
) -> tuple[list[RankedWord], list[RankedWord]]:
    """A word that is both ("orange") stays where it is used more often."""
    head_count = {item.word: item.num_uses for item in heads}
    modifier_count = {item.word: item.num_uses for item in modifiers}
    return (
        [item for item in heads if item.num_uses >= modifier_count.get(item.word, 0)],
        [item for item in modifiers if item.num_uses > head_count.get(item.word, 0)],
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
