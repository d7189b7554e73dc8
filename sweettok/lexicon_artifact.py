"""The two files of a lexicon: written the same way every time, read back strictly.

`lexicon.json` holds words, parts of speech, counts, provenance and hashes; `vectors.safetensors`
holds embeddings in float16, edges and their counts in int32. `sweettok.lexicon` is what to use.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sweettok.errors import LexiconError
from sweettok.vocabulary import Vocabulary

FORMAT_VERSION = 1
VOCABULARIES = ("spatial", "temporal")

_DOCUMENT_FILE = "lexicon.json"
_VECTORS_FILE = "vectors.safetensors"
_DOCUMENT_KEYS = {
    "content_sha256",
    "document_sha256",
    "format_version",
    "name",
    "provenance",
    "text_encoder",
    *VOCABULARIES,
}
_STORED_DTYPES = {
    "embeddings": torch.float16,
    "edges": torch.int32,
    "edge_counts": torch.int32,
}


def holds_lexicon(directory: Traversable) -> bool:
    """Whether there is a lexicon's document in `directory`."""
    return directory.is_dir() and (directory / _DOCUMENT_FILE).is_file()


def write_artifact(
    directory: Path, header: Mapping[str, Any], vocabularies: Mapping[str, Vocabulary]
) -> None:
    """Writes both files; each is written beside its place and renamed.

    The document, which carries the hashes, comes last: an interrupted write never loads.

    Args:
        directory: Made if it is not there.
        header: The document's keys but the vocabularies and its hash, plain JSON values.
        vocabularies: "spatial" and "temporal".
    """
    directory.mkdir(parents=True, exist_ok=True)
    vectors = safetensors.torch.save(_stored_tensors(vocabularies))
    document = _document_bytes(header, vocabularies)
    for name, payload in ((_VECTORS_FILE, vectors), (_DOCUMENT_FILE, document)):
        partial = directory / f".{name}.partial"
        partial.write_bytes(payload)
        os.replace(partial, directory / name)


def read_artifact(root: Traversable, origin: str) -> tuple[dict[str, Any], dict[str, Vocabulary]]:
    """Reads the document and both vocabularies; `origin` names the lexicon in errors.

    Raises:
        LexiconError: A file is missing, damaged, edited or of another format.
    """
    document = _read_document(root, origin)
    tensors = _read_tensors(root, origin)
    return document, {
        label: _vocabulary(document, tensors, label, origin) for label in VOCABULARIES
    }


def _stored_tensors(vocabularies: Mapping[str, Vocabulary]) -> dict[str, Tensor]:
    return {
        f"{label}.{name}": getattr(vocabularies[label], name).to(dtype).contiguous()
        for label in VOCABULARIES
        for name, dtype in _STORED_DTYPES.items()
    }


def _document_bytes(header: Mapping[str, Any], vocabularies: Mapping[str, Vocabulary]) -> bytes:
    document: dict[str, Any] = {"format_version": FORMAT_VERSION, **header}
    for label in VOCABULARIES:
        vocabulary = vocabularies[label]
        counts = vocabulary.word_counts or (None,) * vocabulary.num_words
        rows = zip(vocabulary.words, vocabulary.parts_of_speech, counts, strict=True)
        document[label] = [list(row) for row in rows]
    document["document_sha256"] = _document_hash(document)
    return _one_row_per_line(document).encode()


def _one_row_per_line(document: Mapping[str, Any]) -> str:
    lines = []
    for key, value in document.items():
        if key in VOCABULARIES:
            rows = ",\n".join(f" {json.dumps(row, ensure_ascii=False)}" for row in value)
            lines.append(f"{json.dumps(key)}: [\n{rows}\n]")
        else:
            shown = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)
            lines.append(f"{json.dumps(key)}: {shown}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _document_hash(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "document_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_document(root: Traversable, origin: str) -> dict[str, Any]:
    try:
        document = json.loads((root / _DOCUMENT_FILE).read_bytes())
    except OSError as error:
        raise LexiconError(f"{origin}/{_DOCUMENT_FILE}: cannot be read ({error})") from None
    except ValueError as error:
        raise LexiconError(f"{origin}/{_DOCUMENT_FILE}: is not JSON ({error})") from None
    found = set(document) if isinstance(document, dict) else set()
    if found != _DOCUMENT_KEYS:
        wrong = ", ".join(sorted(found ^ _DOCUMENT_KEYS))
        raise LexiconError(f"{origin}/{_DOCUMENT_FILE}: keys missing or unknown: {wrong}")
    if document["format_version"] != FORMAT_VERSION:
        raise LexiconError(
            f"{origin}: format version {document['format_version']!r}, this package reads "
            f"{FORMAT_VERSION}; use the package version that wrote it or build it again"
        )
    if document["document_sha256"] != _document_hash(document):
        raise LexiconError(
            f"{origin}/{_DOCUMENT_FILE}: was edited (its hash does not fit); build it again"
        )
    return document


def _read_tensors(root: Traversable, origin: str) -> dict[str, Tensor]:
    where = f"{origin}/{_VECTORS_FILE}"
    try:
        tensors = safetensors.torch.load((root / _VECTORS_FILE).read_bytes())
    except OSError as error:
        raise LexiconError(f"{where}: cannot be read ({error})") from None
    except (safetensors.SafetensorError, KeyError) as error:
        raise LexiconError(f"{where}: is damaged ({error}); fetch or build it again") from None
    found = {name: tensor.dtype for name, tensor in tensors.items()}
    expected = {
        f"{label}.{name}": dtype for label in VOCABULARIES for name, dtype in _STORED_DTYPES.items()
    }
    if found != expected:
        raise LexiconError(f"{where}: holds {found}, must hold {expected}; build it again")
    return tensors


def _vocabulary(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], label: str, origin: str
) -> Vocabulary:
    words, parts, counts = zip(*document[label], strict=True)
    try:
        return Vocabulary(
            words=words,
            parts_of_speech=parts,
            embeddings=tensors[f"{label}.embeddings"].float(),
            edges=tensors[f"{label}.edges"].long(),
            edge_counts=tensors[f"{label}.edge_counts"].long(),
            word_counts=() if None in counts else counts,
        )
    except LexiconError as error:
        raise LexiconError(f"{origin}: {label}.{error}") from None
