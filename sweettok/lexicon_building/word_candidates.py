"""Which words may be chosen, and in which order: from WordNet, from captions, or from both.

WordNet's words are ranked by how often its sense-tagged texts and the captions use them in a visual
sense; the captions' own words by how often they occur.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import NamedTuple

from sweettok.lexicon_building.caption_statistics import CaptionStatistics
from sweettok.lexicon_building.visual_words import is_suitable, visual_share
from sweettok.lexicon_building.wordnet import WordNet

# Most words have an abstract sense beside the visual one; most adverbs are not visual at all.
_LEAST_VISUAL_SHARE = {"noun": 0.3, "verb": 0.3, "adjective": 0.25, "adverb": 0.5}
# A noun whose adjectives tell nothing visible ("lasting effect", "naval officer") is no visual
# noun; an adverb is one of motion if a good part of its verbs can be seen.
_LEAST_VISUAL_COMPANY = {"noun": 0.15, "adverb": 0.3}

# Where abstract words may be chosen, a use of one counts a tenth of that of a visual word.
_LEAST_WEIGHT = 0.1
# Words that no text uses come last, those with more senses first.
_SCORE_OF_A_SENSE = 0.01

_WORD = re.compile(r"[^\W\d_]+(?:[-_][^\W\d_]+)*")


class RankedWord(NamedTuple):
    """A candidate: `score` orders it, `num_uses` counts its uses (of any sense)."""

    word: str
    part_of_speech: str
    score: float
    num_uses: int


class WordFilter:
    """Decides which words may be chosen.

    Args:
        keep: "all", "known" or "visual", see `LexiconRecipe`.
        wordnet: The database; may be None only if all words are kept.
        statistics: What the captions say.
    """

    def __init__(self, keep: str, wordnet: WordNet | None, statistics: CaptionStatistics) -> None:
        assert wordnet is not None or keep == "all"
        self._wordnet = wordnet
        self._is_visual = keep == "visual"
        self._keeps_all = keep == "all"
        self._company: dict[str, dict[str, float]] = {}
        if self._is_visual and wordnet is not None:
            for part in _LEAST_VISUAL_COMPANY:
                self._company[part] = visual_company(wordnet, statistics, part)

    def keeps(self, part_of_speech: str, word: str) -> bool:
        """Whether `word` may be chosen as this part of speech."""
        if self._keeps_all or self._wordnet is None:
            return True
        if not is_common_word(self._wordnet, part_of_speech, word):
            return False
        return self._shows_something(self._wordnet, part_of_speech, word) and is_suitable(
            self._wordnet, part_of_speech, word
        )

    def _shows_something(self, wordnet: WordNet, part_of_speech: str, word: str) -> bool:
        if not self._is_visual:
            return True
        company = self._company.get(part_of_speech, {}).get(word, 1.0)
        return (
            company >= _LEAST_VISUAL_COMPANY.get(part_of_speech, 0.0)
            and visual_share(wordnet, part_of_speech, word) >= _LEAST_VISUAL_SHARE[part_of_speech]
        )


def is_common_word(wordnet: WordNet, part_of_speech: str, word: str) -> bool:
    """Whether WordNet has `word` with this part of speech as other than a proper name."""
    senses = wordnet.senses.get((part_of_speech, word), ())
    return any(word in sense.synset.words for sense in senses)


def rank_wordnet_words(
    wordnet: WordNet,
    statistics: CaptionStatistics,
    part_of_speech: str,
    *,
    min_count: int,
    word_filter: WordFilter,
) -> list[RankedWord]:
    """WordNet's words that may be chosen, best first, ties in alphabetical order.

    Args:
        wordnet: The database.
        statistics: What the captions say.
        part_of_speech: One of noun, verb, adjective, adverb.
        min_count: Least number of occurrences in the captions.
        word_filter: Which words may be chosen.
    """
    ranked = []
    for word in wordnet.words(part_of_speech):
        num_captions = statistics.words[part_of_speech, word]
        if num_captions < min_count or not word_filter.keeps(part_of_speech, word):
            continue
        senses = wordnet.senses[part_of_speech, word]
        weight = max(visual_share(wordnet, part_of_speech, word), _LEAST_WEIGHT)
        num_tags = sum(sense.tag_count for sense in senses)
        score = math.log1p(weight * num_tags) + math.log1p(weight * num_captions)
        if score == 0.0:
            score = _SCORE_OF_A_SENSE * weight * math.log1p(len(senses))
        ranked.append(RankedWord(word, part_of_speech, score, num_tags + num_captions))
    return sorted(ranked, key=lambda item: (-item.score, item.word))


def rank_caption_words(
    statistics: CaptionStatistics, part_of_speech: str, *, min_count: int, word_filter: WordFilter
) -> list[RankedWord]:
    """The captions' words that may be chosen, most frequent first, ties in alphabetical order.

    A word is two letters or more; compounds with "-" or "_" are words, numbers are none.

    Args:
        statistics: What the captions say.
        part_of_speech: One of noun, verb, adjective, adverb.
        min_count: Least number of occurrences in the captions.
        word_filter: Which words may be chosen.
    """
    ranked = [
        RankedWord(word, part, float(count), count)
        for (part, word), count in statistics.words.items()
        if part == part_of_speech
        and count >= max(min_count, 1)
        and len(word) > 1
        and _WORD.fullmatch(word)
        and word_filter.keeps(part, word)
    ]
    return sorted(ranked, key=lambda item: (-item.score, item.word))


def fill_up(
    preferred: dict[str, list[RankedWord]], others: dict[str, list[RankedWord]]
) -> dict[str, list[RankedWord]]:
    """The preferred candidates, then the others that are none of them, in their own order.

    Args:
        preferred: Candidates of both parts of speech of one vocabulary, with scores of 1 or more.
        others: Candidates of the same parts of speech, with positive scores.
    """
    taken = {item.word for ranked in preferred.values() for item in ranked}
    return {
        part: preferred[part]
        + [
            item._replace(score=item.score / (1 + item.score))
            for item in others[part]
            if item.word not in taken
        ]
        for part in preferred
    }


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
