"""Word vectors computed elsewhere, read from a file, as a text encoder.

    clip.safetensors   one tensor "vectors", real numbers [words, dim], with clip.json beside it
    glove.npy          an array [words, dim], with glove.json or glove.txt beside it

The JSON is `{"words": [...], "name": "...", "licence": "..."}` or a mere list of words; a text file
(UTF-8) holds one word a line. Words are compared in lower case, spaces written as "_". Every vector
must be finite and point somewhere: it is normalised, so its length does not matter.
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
_NPY_MAGIC = b"\x93NUMPY"
_LEAST_NORM = 1e-12  # what normalising takes for nothing
_FORM = (
    "vectors:FILE is a .npy or .safetensors file of shape (words, dim), with its words beside it "
    "in a .json or .txt of the same name"
)


class WordVectors:
    """A table of word vectors behind the protocol of a text encoder; it reads bare words only.

    Args:
        path: The file of vectors; its names lie beside it.

    Raises:
        LexiconError: A file is missing or malformed, or words and vectors do not fit together.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        _check_file(path)
        words, self._name, self._licence = _read_names(path)
        self._vectors = _read_vectors(path)
        if self._vectors.ndim != 2 or len(self._vectors) != len(words) or not words:
            raise LexiconError(
                f"{path}: vectors of shape {tuple(self._vectors.shape)} for {len(words)} words; "
                "must be (words, dim) with a name for each row"
            )
        _check_rows(path, self._vectors, words)
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
        raise LexiconError(
            f"{path}: no names beside it ({beside[0].name} or {beside[1].name}); {_FORM}"
        )
    text = _read_text(found)
    if found.suffix == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()], path.name, "unknown"
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise LexiconError(f"{found}: is not JSON ({error})") from None
    if isinstance(document, list):
        document = {"words": document}
    words = document.get("words") if isinstance(document, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise LexiconError(f'{found}: must be a list of words or {{"words": [...]}}')
    return words, str(document.get("name", path.name)), str(document.get("licence", "unknown"))


def _check_file(path: Path) -> None:
    if path.suffix not in (".npy", ".safetensors"):
        raise LexiconError(f"{path}: must end in .safetensors or .npy; {_FORM}")
    if not path.is_file():
        raise LexiconError(f"{path}: {'is no file' if path.exists() else 'not found'}; {_FORM}")
    if not path.stat().st_size:
        raise LexiconError(f"{path}: is empty; write the vectors again")


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LexiconError(
            f"{path}: line {line} is not UTF-8; convert the file, as "
            f"`iconv -f LATIN1 -t UTF-8 {path.name}` does"
        ) from None


def _read_vectors(path: Path) -> Tensor:
    try:
        vectors = _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
    except (
        *(OSError, ValueError, EOFError, SyntaxError, MemoryError),
        safetensors.SafetensorError,
    ) as error:
        if isinstance(error, LexiconError):
            raise
        shown = " ".join(str(error).split())
        raise LexiconError(
            f"{path}: vectors cannot be read ({shown}); write the file again"
        ) from None
    if vectors.dtype == torch.bool or vectors.is_complex():
        raise LexiconError(
            f"{path}: holds {str(vectors.dtype).removeprefix('torch.')}, must hold real numbers"
        )
    return vectors.float()


def _read_npy(path: Path) -> Tensor:
    with path.open("rb") as file:
        if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
            raise LexiconError(f"{path}: is no .npy file; write it with numpy.save")
        file.seek(0)
        try:
            array = np.load(file, allow_pickle=False)
        except ValueError as error:
            if "Object arrays" not in str(error):
                raise
            raise LexiconError(
                f"{path}: holds Python objects, must hold real numbers; save a float array"
            ) from None
    if array.dtype.kind not in "fiu":
        raise LexiconError(f"{path}: holds {array.dtype}, must hold real numbers")
    with np.errstate(over="ignore"):  # what is too large is refused by name
        return torch.from_numpy(array.astype(np.float32))


def _read_safetensors(path: Path) -> Tensor:
    tensors = safetensors.torch.load_file(path)
    if _TENSOR not in tensors:
        raise LexiconError(
            f"{path}: holds {', '.join(sorted(tensors)) or 'no tensor'}, must hold the vectors as "
            f"a tensor named {_TENSOR!r}"
        )
    return tensors[_TENSOR]


def _check_rows(path: Path, vectors: Float[Tensor, "words dim"], words: Sequence[str]) -> None:
    """Refuses vectors that have no direction, naming the first word of each fault."""
    norms = vectors.norm(dim=1)
    finite = torch.isfinite(vectors).all(dim=1)
    for rows, fault in (
        (~finite, "holds NaN or more than single precision can; give finite numbers"),
        (finite & ~torch.isfinite(norms), "is too long for single precision; normalise it"),
        (norms < _LEAST_NORM, "is zero: it points nowhere; give it a direction or leave it out"),
    ):
        found = rows.nonzero().flatten().tolist()
        if found:
            more = f" (and of {len(found) - 1} more words)" if len(found) > 1 else ""
            raise LexiconError(
                f"{path}: the vector of {words[found[0]]!r}, row {found[0]}{more}, {fault}"
            )
