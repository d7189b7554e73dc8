"""Word vectors computed elsewhere, read from a file, as a text encoder.

    clip.safetensors   one tensor "vectors", float [words, dim], with clip.json beside it
    glove.npy          an array [words, dim], with glove.json or glove.txt beside it

The JSON is `{"words": [...], "name": "...", "licence": "..."}` or a mere list of words; a text file
holds one word a line. Words are compared in lower case, spaces written as "_".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from sweettok.errors import LexiconError

_TENSOR = "vectors"


class WordVectors:
    """A table of word vectors behind the protocol of a text encoder; it reads bare words only.

    Args:
        path: The file of vectors; its names lie beside it.

    Raises:
        LexiconError: A file is missing or malformed, or words and vectors do not fit together.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        words, self._name, self._licence = _read_names(path)
        self._vectors = _read_vectors(path)
        if self._vectors.ndim != 2 or len(self._vectors) != len(words) or not words:
            raise LexiconError(
                f"{path}: vectors of shape {tuple(self._vectors.shape)} for {len(words)} words; "
                "must be (words, dim) with a name for each row"
            )
        self._rows: dict[str, int] = {}
        for row, word in enumerate(words):
            self._rows.setdefault(spelling(word), row)

    @property
    def name(self) -> str:
        """The name in the JSON, or that of the file."""
        return self._name

    @property
    def licence(self) -> str:
        """The licence in the JSON."""
        return self._licence

    @property
    def embedding_dim(self) -> int:
        """Width of the vectors."""
        return int(self._vectors.shape[1])

    @property
    def known_words(self) -> frozenset[str]:
        """The words that have a vector."""
        return frozenset(self._rows)

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """The vectors of `texts`, float32, as the file has them.

        Raises:
            LexiconError: A text has no vector.
        """
        missing = [text for text in texts if spelling(text) not in self._rows]
        if missing:
            raise LexiconError(
                f"{self._name}: no vector for {missing[0]!r} and {len(missing) - 1} more; "
                "give vectors of all words, and bare words without a prompt"
            )
        return self._vectors[[self._rows[spelling(text)] for text in texts]]


def spelling(word: str) -> str:
    """The word as it is compared: lower case, spaces as "_"."""
    return "_".join(word.lower().split())


def _read_names(path: Path) -> tuple[list[str], str, str]:
    beside = [path.with_suffix(".json"), path.with_suffix(".txt")]
    found = next((candidate for candidate in beside if candidate.is_file()), None)
    if found is None:
        raise LexiconError(f"{path}: no names beside it ({beside[0].name} or {beside[1].name})")
    text = found.read_text(encoding="utf-8")
    if found.suffix == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()], path.stem, "unknown"
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise LexiconError(f"{found}: is not JSON ({error})") from None
    if isinstance(document, list):
        document = {"words": document}
    words = document.get("words") if isinstance(document, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise LexiconError(f'{found}: must be a list of words or {{"words": [...]}}')
    return words, str(document.get("name", path.stem)), str(document.get("licence", "unknown"))


def _read_vectors(path: Path) -> Tensor:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)[_TENSOR].float()
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise LexiconError(
            f"{path}: vectors cannot be read ({' '.join(str(error).split())})"
        ) from None
    raise LexiconError(f"{path}: must end in .safetensors or .npy")
