"""The lexicon: the words that are the codes of both codebooks, as one hashed artifact on disk.

    lexicon = Lexicon.load("small")            # the lexicon that ships with the package
    lexicon = Lexicon.load("path/to/lexicon")  # a directory written by jobs/build_codebook.py
    tiny = lexicon.subset(num_spatial=256, num_temporal=256)

A lexicon directory holds two files: `lexicon.json` (words, parts of speech, counts, provenance,
hashes) and `vectors.safetensors` (embeddings in float16, edges and their counts in int32). Loading
is strict: a missing part, an edited word or a flipped byte is one `LexiconError`.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from sweettok.errors import LexiconError
from sweettok.lexicon_artifact import holds_lexicon, read_artifact, write_artifact
from sweettok.vocabulary import Vocabulary

__all__ = ["Lexicon", "Vocabulary", "builtin_lexicons"]

SPATIAL_PARTS_OF_SPEECH = ("noun", "adjective")
TEMPORAL_PARTS_OF_SPEECH = ("verb", "adverb")


@dataclass(frozen=True, eq=False, repr=False)
class Lexicon:
    """The words of both codebooks.

    Attributes:
        name: A short name, stored with the artifact.
        spatial: Nouns and adjectives, the codes of the spatial tokens.
        temporal: Verbs and adverbs, the codes of the temporal tokens.
        text_encoder: Which encoder made the embeddings, such as "minilm".
        provenance: Plain JSON values: sources with licences, prompt templates, build settings.

    Raises:
        LexiconError: A vocabulary holds other parts of speech, or the two embedding widths differ.
    """

    name: str
    spatial: Vocabulary
    temporal: Vocabulary
    text_encoder: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for vocabulary, label, allowed in (
            (self.spatial, "spatial", SPATIAL_PARTS_OF_SPEECH),
            (self.temporal, "temporal", TEMPORAL_PARTS_OF_SPEECH),
        ):
            foreign = sorted(set(vocabulary.parts_of_speech) - set(allowed))
            if foreign:
                raise LexiconError(
                    f"{label}: part of speech {foreign[0]!r}, must be one of {', '.join(allowed)}"
                )
        if self.spatial.embedding_dim != self.temporal.embedding_dim:
            raise LexiconError(
                f"embeddings are {self.spatial.embedding_dim} wide in spatial and "
                f"{self.temporal.embedding_dim} in temporal; make both with one text encoder"
            )

    @property
    def embedding_dim(self) -> int:
        """Width of a word's text embedding, the same in both vocabularies."""
        return self.spatial.embedding_dim

    @property
    def content_hash(self) -> str:
        """sha256 (hex) of both vocabularies: words, parts of speech, embeddings and graph.

        Independent of the file layout, the name and the provenance.
        """
        digests = (self.spatial.content_digest(), self.temporal.content_digest())
        return hashlib.sha256(b"".join(digests)).hexdigest()

    def __repr__(self) -> str:
        return (
            f"Lexicon({self.name!r}, spatial={self.spatial!r}, temporal={self.temporal!r}, "
            f"text_encoder={self.text_encoder!r})"
        )

    def subset(self, num_spatial: int, num_temporal: int) -> Lexicon:
        """A smaller lexicon of the most frequent words, in the same proportion of parts of speech.

        Raises:
            LexiconError: A number is larger than what the lexicon has, or too small.
        """
        self._check_number("spatial", self.spatial, num_spatial)
        self._check_number("temporal", self.temporal, num_temporal)
        return Lexicon(
            name=f"{self.name}-{num_spatial}-{num_temporal}",
            spatial=self.spatial.subset(num_spatial),
            temporal=self.temporal.subset(num_temporal),
            text_encoder=self.text_encoder,
            provenance=self.provenance,
        )

    def _check_number(self, label: str, vocabulary: Vocabulary, wanted: int) -> None:
        least, most = len(set(vocabulary.parts_of_speech)), vocabulary.num_words
        if least <= wanted <= most:
            return
        remedy = f"set num_{label}_words to a number in that range"
        if wanted > most:
            remedy += ", or take a lexicon of more words (jobs/build_codebook.py makes one)"
        raise LexiconError(
            f"lexicon {self.name!r}: {wanted} {label} words asked, must be in [{least}, {most}]; "
            + remedy
        )

    def save(self, directory: str | Path) -> None:
        """Writes the two files into `directory`; the same lexicon gives the same bytes."""
        header = {
            "name": self.name,
            "text_encoder": self.text_encoder,
            "content_sha256": self.content_hash,
            "provenance": dict(self.provenance),
        }
        vocabularies = {"spatial": self.spatial, "temporal": self.temporal}
        write_artifact(Path(directory), header, vocabularies)

    @classmethod
    def load(cls, source: str | Path) -> Lexicon:
        """Loads a lexicon that ships with the package by its name, or any by its directory.

        A `str` equal to a shipped name means that one; write "./small" for a directory so named.

        Raises:
            LexiconError: The lexicon is unknown, incomplete, of another format, or altered.
        """
        root, origin = _locate(source)
        document, vocabularies = read_artifact(root, origin)
        lexicon = cls(
            name=document["name"],
            spatial=vocabularies["spatial"],
            temporal=vocabularies["temporal"],
            text_encoder=document["text_encoder"],
            provenance=document["provenance"],
        )
        if lexicon.content_hash != document["content_sha256"]:
            raise LexiconError(
                f"{origin}: content hash is {lexicon.content_hash[:12]}…, the document promises "
                f"{str(document['content_sha256'])[:12]}…: a file was altered; build it again"
            )
        return lexicon


def builtin_lexicons() -> tuple[str, ...]:
    """Names of the lexicons that ship with the package, sorted."""
    root = importlib.resources.files("sweettok") / "lexicons"
    return tuple(sorted(entry.name for entry in root.iterdir() if holds_lexicon(entry)))


def _locate(source: str | Path) -> tuple[Traversable, str]:
    shipped = builtin_lexicons()
    if isinstance(source, str) and source in shipped:
        return importlib.resources.files("sweettok") / "lexicons" / source, f"lexicon {source!r}"
    directory = Path(source)
    if not holds_lexicon(directory) and holds_lexicon(directory / "lexicon"):
        raise LexiconError(
            f"{source}: is a tokenizer, not a lexicon; give its lexicon {directory / 'lexicon'}, "
            "or the tokenizer itself as --tokenizer where a job has that"
        )
    if not holds_lexicon(directory):
        raise LexiconError(
            f"{source}: no lexicon there (lexicon.json missing); give a directory written by "
            f"jobs/build_codebook.py or one of: {', '.join(shipped)}"
        )
    return directory, str(directory)
