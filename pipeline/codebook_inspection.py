"""What a codebook is like: words, graph, nearest words, and how much of captions it covers."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline.captions import CaptionsConfig, read_captions
from sweettok.errors import LexiconError
from sweettok.lexicon import Lexicon
from sweettok.lexicon_building.caption_parsers import create_parser
from sweettok.lexicon_building.caption_statistics import gather_statistics
from sweettok.lexicon_building.coverage import PartCoverage, measure_coverage
from sweettok.lexicon_building.inspection import (
    VocabularyReport,
    inspect_vocabulary,
    sample_words,
)
from sweettok.lexicon_building.word_vectors import spelling
from sweettok.lexicon_building.wordnet import WordNet
from sweettok.model import SweetTok

_NUM_SAMPLES = 5
_NUM_MISSING = 20
_NUM_NEAR = 3


@dataclass(frozen=True)
class CodebookReport:
    """A codebook, inspected.

    Attributes:
        name: The lexicon's name.
        content_hash: The lexicon's content hash.
        text_encoder: What made its embeddings.
        compared: What nearest words are nearest by.
        vocabularies: "spatial" and "temporal".
        coverage: Of each part of speech; empty without captions.
    """

    name: str
    content_hash: str
    text_encoder: str
    compared: str
    vocabularies: dict[str, VocabularyReport]
    coverage: tuple[PartCoverage, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """The report as plain values."""
        return dataclasses.asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield f"lexicon {self.name}, content hash {self.content_hash[:12]}…"
        yield f"embeddings: {self.text_encoder}; nearest by {self.compared}"
        for label, report in self.vocabularies.items():
            yield f"\n{label}: " + next(lines := report.lines())
            yield from lines
        if self.coverage:
            yield "\ncoverage of the captions"
        for part in self.coverage:
            yield from part.lines()


def inspect_codebook(
    lexicon: Lexicon, tokenizer: SweetTok | None, words: Sequence[str], *, num_neighbours: int
) -> CodebookReport:
    """Inspects both vocabularies.

    Args:
        lexicon: The words.
        tokenizer: A trained tokenizer of these words, whose codes are compared; None compares the
            text embeddings.
        words: Find the nearest of these, in upper or lower case; if empty, of some words of each
            part of speech.
        num_neighbours: How many nearest words to tell for each.

    Raises:
        LexiconError: Words are in neither vocabulary.
    """
    words = _spelled_as_known(lexicon, words)
    codes: dict[str, Tensor | None] = {"spatial": None, "temporal": None}
    if tokenizer is not None:
        codes["spatial"] = tokenizer.spatial_quantizer.codebook.current_codes()
        codes["temporal"] = tokenizer.temporal_quantizer.codebook.current_codes()
    reports = {}
    for label, vocabulary in (("spatial", lexicon.spatial), ("temporal", lexicon.temporal)):
        asked = [word for word in words if word in vocabulary.words]
        queries = asked if words else sample_words(vocabulary, _NUM_SAMPLES)
        reports[label] = inspect_vocabulary(
            vocabulary, queries, num_neighbours=num_neighbours, vectors=codes[label]
        )
    return CodebookReport(
        name=lexicon.name,
        content_hash=lexicon.content_hash,
        text_encoder=lexicon.text_encoder,
        compared="text embedding" if tokenizer is None else "the tokenizer's codes",
        vocabularies=reports,
    )


def _spelled_as_known(lexicon: Lexicon, words: Sequence[str]) -> list[str]:
    """`words` as the lexicon writes them, each once."""
    known = {spelling(word): word for word in (*lexicon.spatial.words, *lexicon.temporal.words)}
    unknown = [word for word in dict.fromkeys(words) if spelling(word) not in known]
    if unknown:
        raise LexiconError(
            f"no words of the lexicon {lexicon.name}: "
            + ", ".join(word + _near(spelling(word), list(known)) for word in unknown)
        )
    return list(dict.fromkeys(known[spelling(word)] for word in words))


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=_NUM_NEAR)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def cover_captions(
    report: CodebookReport,
    lexicon: Lexicon,
    captions: CaptionsConfig,
    *,
    parser: str,
    wordnet_directory: str | None,
) -> CodebookReport:
    """The report with the coverage of `captions` added.

    Args:
        report: What to add to.
        lexicon: The words.
        captions: Where captions are.
        parser: "spacy", "wordnet" or "tagged", see `create_parser`.
        wordnet_directory: The WordNet 3.0 database, for the parsers that use it.

    Raises:
        LexiconError: The parser is not installed.
        SourceError: The captions cannot be read.
    """
    wordnet = WordNet.load(wordnet_directory) if wordnet_directory else None
    statistics = gather_statistics(read_captions(captions), create_parser(parser, wordnet))
    coverage = measure_coverage(lexicon, statistics, num_missing=_NUM_MISSING)
    return dataclasses.replace(report, coverage=coverage)
