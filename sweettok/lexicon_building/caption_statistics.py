"""What captions say about words: how often each occurs, and which modifies which.

The counting knows nothing of where tokens come from: a dependency parser, a tagger with links
between neighbours, or a corpus that was tagged before (`caption_parsers`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sweettok.lexicon_building.progress import ProgressLog

_PART_OF_TAG = {"NOUN": "noun", "ADJ": "adjective", "VERB": "verb", "ADV": "adverb"}


class ParsedToken(NamedTuple):
    """One token of a parsed caption.

    `tag` is the universal part of speech ("NOUN"), `relation` the dependency ("amod") and `head`
    the position of the token that it depends on, in the same caption.
    """

    lemma: str
    tag: str
    relation: str
    head: int


class CaptionParser(Protocol):
    """Turns captions into tokens with lemmas, parts of speech and links; deterministic."""

    @property
    def name(self) -> str:
        """The parser's name."""

    @property
    def licence(self) -> str:
        """The licence of its data."""

    @property
    def gives(self) -> str:
        """What it gives, and whether its links are dependencies or mere adjacency."""

    def parse(self, captions: Iterable[str]) -> Iterable[list[ParsedToken]]:
        """Yields the tokens of each caption, in order."""


@dataclass
class CaptionStatistics:
    """Counts over parsed captions.

    Attributes:
        words: Occurrences of (part of speech, lemma).
        adjective_noun: Occurrences of an adjective as the attribute of a noun.
        adverb_verb: Occurrences of an adverb, or a particle as in "fall down", with a verb.
        num_captions: Captions that were counted.
    """

    words: Counter[tuple[str, str]] = field(default_factory=Counter)
    adjective_noun: Counter[tuple[str, str]] = field(default_factory=Counter)
    adverb_verb: Counter[tuple[str, str]] = field(default_factory=Counter)
    num_captions: int = 0

    def update(self, other: CaptionStatistics) -> None:
        """Adds the counts of other captions."""
        self.words.update(other.words)
        self.adjective_noun.update(other.adjective_noun)
        self.adverb_verb.update(other.adverb_verb)
        self.num_captions += other.num_captions

    def add(self, tokens: Sequence[ParsedToken]) -> None:
        """Counts the words and the pairs of one caption."""
        self.num_captions += 1
        for token in tokens:
            head = tokens[token.head]
            if token.relation == "prt" and head.tag == "VERB":
                self.words["adverb", token.lemma] += 1
                self.adverb_verb[token.lemma, head.lemma] += 1
            elif token.tag in _PART_OF_TAG:
                self.words[_PART_OF_TAG[token.tag], token.lemma] += 1
                if (token.tag, token.relation, head.tag) == ("ADJ", "amod", "NOUN"):
                    self.adjective_noun[token.lemma, head.lemma] += 1
                elif (token.tag, token.relation, head.tag) == ("ADV", "advmod", "VERB"):
                    self.adverb_verb[token.lemma, head.lemma] += 1


def gather_statistics(captions: Iterable[str], parser: CaptionParser) -> CaptionStatistics:
    """Parses the captions and counts; logs its speed every few seconds.

    Raises:
        LexiconError: The parser cannot read a caption.
    """
    statistics = CaptionStatistics()
    progress = ProgressLog("parsing captions", "words")
    for tokens in parser.parse(captions):
        statistics.add(tokens)
        progress.advance(len(tokens))
    progress.finish()
    return statistics
