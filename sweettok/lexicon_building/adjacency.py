"""Links between neighbours: what stands in for dependencies where there is no parser.

An adjective belongs to the last noun of the noun group after it ("red toy car" links red and car);
an adverb to the verb after it ("slowly rolls") or else, as a particle does, to the nearest verb
not far before it ("rolls the ball slowly").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sweettok.lexicon_building.caption_statistics import ParsedToken

_MOST_WORDS_BACK = 4


class TaggedWord(NamedTuple):
    """A lemma and its universal part of speech; "PRT" is the particle of a verb."""

    lemma: str
    tag: str


def link_neighbours(words: Sequence[TaggedWord]) -> list[ParsedToken]:
    """The words as parsed tokens, linked by the rules above; other words are their own head."""
    tokens = []
    for position, word in enumerate(words):
        relation, head = "", None
        if word.tag == "ADJ":
            relation, head = "amod", _noun_after(words, position)
        elif word.tag == "ADV":
            relation, head = "advmod", _verb_near(words, position)
        elif word.tag == "PRT":
            relation, head = "prt", _verb_before(words, position)
        tokens.append(
            ParsedToken(word.lemma, word.tag, relation, head)
            if head is not None
            else ParsedToken(word.lemma, word.tag, "", position)
        )
    return tokens


def _noun_after(words: Sequence[TaggedWord], position: int) -> int | None:
    """The last noun of the group: adjectives, conjunctions and commas may stand in between."""
    after = position + 1
    while after < len(words) and words[after].tag in ("ADJ", "CCONJ", "PUNCT"):
        after += 1
    if after == len(words) or words[after].tag != "NOUN":
        return None
    while after + 1 < len(words) and words[after + 1].tag == "NOUN":
        after += 1
    return after


def _verb_near(words: Sequence[TaggedWord], position: int) -> int | None:
    after = position + 1
    while after < len(words) and words[after].tag == "ADV":
        after += 1
    if after < len(words) and words[after].tag == "VERB":
        return after
    if after < len(words) and words[after].tag == "ADJ":
        return None  # "very large"
    return _verb_before(words, position)


def _verb_before(words: Sequence[TaggedWord], position: int) -> int | None:
    for before in range(position - 1, max(position - 1 - _MOST_WORDS_BACK, -1), -1):
        if words[before].tag == "VERB":
            return before
        if words[before].tag == "PUNCT":
            return None
    return None
