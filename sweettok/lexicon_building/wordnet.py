"""Reads the WordNet 3.0 database files: senses with their category, gloss, pointers and tag counts.

Source: WordNet 3.0 database format, manual page wndb(5WN); counts are from `cntlist.rev`.
Debian ships the files as `wordnet-base` in /usr/share/wordnet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sweettok.errors import LexiconError

DEFAULT_DIRECTORY = Path("/usr/share/wordnet")

PARTS_OF_SPEECH = ("noun", "verb", "adjective", "adverb")
_FILE_SUFFIX = {"noun": "noun", "verb": "verb", "adjective": "adj", "adverb": "adv"}
_PART_OF_LETTER = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}
_PART_OF_SENSE_TYPE = {"1": "noun", "2": "verb", "3": "adjective", "4": "adverb", "5": "adjective"}
_QUOTED = re.compile(r'"([^"]*)"')
_SYNTACTIC_MARKER = re.compile(r"\((?:a|p|ip)\)$")


class SynsetKey(NamedTuple):
    """Identity of a synset: its part of speech and its byte offset in that data file."""

    part_of_speech: str
    offset: int


class Pointer(NamedTuple):
    """A relation to another synset; `symbol` as in wninput(5WN), such as "=" for an attribute."""

    symbol: str
    target: SynsetKey


@dataclass(frozen=True)
class Synset:
    """A set of synonyms.

    Attributes:
        key: Its identity.
        category: Number of its lexicographer file, see lexnames(5WN); 5 is noun.animal.
        words: Its words as written (capitals kept, spaces as "_").
        pointers: Its relations.
        gloss: Definition and quoted examples.
    """

    key: SynsetKey
    category: int
    words: tuple[str, ...]
    pointers: tuple[Pointer, ...]
    gloss: str

    @property
    def definition(self) -> str:
        """The gloss without its quoted examples."""
        return self.gloss.split('"', 1)[0].strip(" ;")

    @property
    def examples(self) -> tuple[str, ...]:
        """The quoted examples of the gloss."""
        return tuple(_QUOTED.findall(self.gloss))

    def targets(self, symbol: str) -> tuple[SynsetKey, ...]:
        """The synsets that a pointer of this symbol leads to."""
        return tuple(pointer.target for pointer in self.pointers if pointer.symbol == symbol)


class Sense(NamedTuple):
    """One sense of a word and how often it was tagged in WordNet's sense-tagged texts."""

    synset: Synset
    tag_count: int


@dataclass(frozen=True)
class WordNet:
    """The database in memory.

    Attributes:
        synsets: All synsets.
        senses: For (part of speech, lower-case word), its senses in WordNet's order.
        exceptions: For (part of speech, irregular form), its dictionary form.
    """

    synsets: Mapping[SynsetKey, Synset]
    senses: Mapping[tuple[str, str], tuple[Sense, ...]]
    exceptions: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: str | Path = DEFAULT_DIRECTORY) -> WordNet:
        """Reads the database.

        Raises:
            LexiconError: The directory lacks one of WordNet's files.
        """
        directory = Path(directory)
        suffixes = _FILE_SUFFIX.values()
        wanted = [f"{kind}.{suffix}" for kind in ("data", "index") for suffix in suffixes]
        wanted += [f"{suffix}.exc" for suffix in suffixes]
        missing = [name for name in (*wanted, "cntlist.rev") if not (directory / name).is_file()]
        if missing:
            raise LexiconError(
                f"{directory}: no WordNet 3.0 database ({missing[0]} missing); install Debian's "
                "wordnet-base or give the directory that holds it"
            )
        synsets = {s.key: s for part in PARTS_OF_SPEECH for s in _read_synsets(directory, part)}
        return cls(synsets, _read_senses(directory, synsets), _read_exceptions(directory))

    def captions(self) -> Iterator[str]:
        """The definitions and example sentences of all synsets, in a fixed order."""
        for key in sorted(self.synsets):
            synset = self.synsets[key]
            yield synset.definition
            yield from synset.examples

    def words(self, part_of_speech: str) -> list[str]:
        """All lower-case single words of a part of speech, in alphabetical order."""
        return sorted(
            word
            for part, word in self.senses
            if part == part_of_speech and word.isascii() and word.isalpha() and len(word) > 1
        )


def _read_synsets(directory: Path, part_of_speech: str) -> Iterator[Synset]:
    path = directory / f"data.{_FILE_SUFFIX[part_of_speech]}"
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue  # the licence, at the head of every file
        fields, _, gloss = line.partition("|")
        tokens = fields.split()
        num_words = int(tokens[3], 16)
        words = tuple(_SYNTACTIC_MARKER.sub("", word) for word in tokens[4 : 4 + 2 * num_words : 2])
        first = 5 + 2 * num_words
        last = first + 4 * int(tokens[first - 1])
        pointers = tuple(
            Pointer(symbol, SynsetKey(_PART_OF_LETTER[letter], int(offset)))
            for symbol, offset, letter in zip(
                tokens[first:last:4],
                tokens[first + 1 : last : 4],
                tokens[first + 2 : last : 4],
                strict=True,
            )
        )
        key = SynsetKey(part_of_speech, int(tokens[0]))
        yield Synset(key, int(tokens[1]), words, pointers, gloss.strip())


def _read_tag_counts(directory: Path) -> dict[tuple[str, str, int], int]:
    counts = {}
    for line in (directory / "cntlist.rev").read_text(encoding="utf-8").splitlines():
        sense_key, sense_number, count = line.split()
        word, _, rest = sense_key.partition("%")
        counts[_PART_OF_SENSE_TYPE[rest[0]], word, int(sense_number)] = int(count)
    return counts


def _read_exceptions(directory: Path) -> dict[tuple[str, str], str]:
    exceptions: dict[tuple[str, str], str] = {}
    for part, suffix in _FILE_SUFFIX.items():
        for line in (directory / f"{suffix}.exc").read_text(encoding="utf-8").splitlines():
            inflected, base, *_ = line.split()
            exceptions.setdefault((part, inflected), base)
    return exceptions


def _read_senses(
    directory: Path, synsets: Mapping[SynsetKey, Synset]
) -> dict[tuple[str, str], tuple[Sense, ...]]:
    counts = _read_tag_counts(directory)
    senses = {}
    for part, suffix in _FILE_SUFFIX.items():
        for line in (directory / f"index.{suffix}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                continue
            tokens = line.split()
            word, num_senses = tokens[0], int(tokens[2])
            senses[part, word] = tuple(
                Sense(synsets[SynsetKey(part, int(offset))], counts.get((part, word, number), 0))
                for number, offset in enumerate(tokens[-num_senses:], start=1)
            )
    return senses
