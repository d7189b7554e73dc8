"""One vocabulary of a word codebook: words, their frozen text embeddings and their graph.

A word's position in the vocabulary is its index in the codebook. Words of one part of speech are
stored most frequent first, so a prefix of each part of speech is a smaller vocabulary.

Axis names: `words` number of words, `dim` width of the text embedding, `edges` number of edges.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sweettok.errors import LexiconError


@dataclass(frozen=True, eq=False, repr=False)
class Vocabulary:
    """Words with embeddings and an undirected co-occurrence graph; validates itself.

    Attributes:
        words: The words, unique, most frequent first within each part of speech.
        parts_of_speech: One name for each word, such as "noun".
        embeddings: float32, finite. Rounded to half precision on construction, because that is what
            is stored: a saved and reloaded vocabulary is equal to the last bit.
        edges: int64, undirected: each column (i, j) has i < j, columns are unique and sorted.
        edge_counts: int64, how often the two words of each edge occurred together, at least 1.
        word_counts: How often each word occurred in the corpora; empty when that is not known.

    Raises:
        LexiconError: Any of the above does not hold.
    """

    words: tuple[str, ...]
    parts_of_speech: tuple[str, ...]
    embeddings: Float[Tensor, "words dim"]
    edges: Int[Tensor, "2 edges"]
    edge_counts: Int[Tensor, " edges"]
    word_counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("words", "parts_of_speech", "word_counts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_words()
        self._check_embeddings()
        self._refuse_rows(self.embeddings, "not finite; give finite numbers")
        object.__setattr__(self, "embeddings", self.embeddings.detach().half().float())
        self._refuse_rows(self.embeddings, "beyond half precision (±65504); normalise them")
        self._check_edges()

    @property
    def num_words(self) -> int:
        """Number of words."""
        return len(self.words)

    @property
    def embedding_dim(self) -> int:
        """Width of a word's text embedding."""
        return int(self.embeddings.shape[1])

    @property
    def num_edges(self) -> int:
        """Number of undirected edges."""
        return int(self.edges.shape[1])

    def __repr__(self) -> str:
        per_part = ", ".join(f"{n} {part}s" for part, n in Counter(self.parts_of_speech).items())
        shape = tuple(self.embeddings.shape)
        return f"Vocabulary({per_part}; embeddings {shape}, {self.num_edges} edges)"

    def content_digest(self) -> bytes:
        """sha256 digest of words, parts of speech, embeddings, edges and their counts."""
        digest = hashlib.sha256()
        for word, part in zip(self.words, self.parts_of_speech, strict=True):
            digest.update(f"{word}\t{part}\n".encode())
        for tensor, dtype in (
            (self.embeddings, "<f2"),
            (self.edges, "<i8"),
            (self.edge_counts, "<i8"),
        ):
            digest.update(f"{tuple(tensor.shape)}\n".encode())
            digest.update(tensor.cpu().numpy().astype(dtype).tobytes())
        return digest.digest()

    def subset(self, num_words: int) -> Vocabulary:
        """The `num_words` most frequent words, in the same proportion of parts of speech.

        Edges whose two words both stay are kept and re-indexed; the order of words does not change.

        Raises:
            LexiconError: `num_words` is not in [number of parts of speech, number of words].
        """
        wanted = _proportional_shares(Counter(self.parts_of_speech), num_words)
        kept: list[int] = []
        for index, part in enumerate(self.parts_of_speech):
            if wanted[part] > 0:
                wanted[part] -= 1
                kept.append(index)
        new_index = torch.full((self.num_words,), -1, dtype=torch.int64)
        new_index[torch.tensor(kept)] = torch.arange(len(kept))
        edges = new_index[self.edges]
        stays = (edges >= 0).all(dim=0)
        return Vocabulary(
            words=tuple(self.words[i] for i in kept),
            parts_of_speech=tuple(self.parts_of_speech[i] for i in kept),
            embeddings=self.embeddings[kept],
            edges=edges[:, stays],
            edge_counts=self.edge_counts[stays],
            word_counts=tuple(self.word_counts[i] for i in kept) if self.word_counts else (),
        )

    def _check_words(self) -> None:
        if not self.words:
            raise LexiconError("words: none given; a vocabulary needs at least one")
        for word in self.words:
            if not isinstance(word, str) or not word or word.split() != [word]:
                raise LexiconError(f"words: {word!r} is not one word without spaces")
        repeated = [word for word, count in Counter(self.words).items() if count > 1]
        if repeated:
            raise LexiconError(f"words: {repeated[0]!r} occurs more than once; keep one of them")
        for name, values in (
            ("parts_of_speech", self.parts_of_speech),
            ("word_counts", self.word_counts or self.words),
        ):
            if len(values) != len(self.words):
                raise LexiconError(
                    f"{name}: {len(values)} given for {len(self.words)} words; give one for each"
                )

    def _check_embeddings(self) -> None:
        shape = tuple(self.embeddings.shape)
        if len(shape) != 2 or shape[0] != len(self.words) or shape[1] == 0:
            raise LexiconError(
                f"embeddings: shape {shape}, must be ({len(self.words)}, dim): a row for each word"
            )
        if self.embeddings.dtype != torch.float32:
            raise LexiconError(f"embeddings: {self.embeddings.dtype}, must be torch.float32")

    def _refuse_rows(self, embeddings: Float[Tensor, "words dim"], fault: str) -> None:
        """Refuses rows that are not finite, naming the first word."""
        rows = (~torch.isfinite(embeddings).all(dim=1)).nonzero().flatten().tolist()
        if rows:
            more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
            raise LexiconError(f"embeddings: of {self.words[rows[0]]!r}{more}: {fault}")

    def _check_edges(self) -> None:
        shape = tuple(self.edges.shape)
        if len(shape) != 2 or shape[0] != 2 or self.edges.dtype != torch.int64:
            raise LexiconError(
                f"edges: {self.edges.dtype} of shape {shape}, must be torch.int64 of (2, edges)"
            )
        if tuple(self.edge_counts.shape) != shape[1:] or self.edge_counts.dtype != torch.int64:
            raise LexiconError(
                f"edge_counts: {self.edge_counts.dtype} of shape {tuple(self.edge_counts.shape)}, "
                f"must be torch.int64 of ({shape[1]},): one for each edge"
            )
        if shape[1] == 0:
            return
        first, second = self.edges
        if int(self.edges.min()) < 0 or int(self.edges.max()) >= self.num_words:
            raise LexiconError(
                f"edges: indices from {int(self.edges.min())} to {int(self.edges.max())}, "
                f"must be in [0, {self.num_words - 1}]"
            )
        keys = first * self.num_words + second
        if not bool((first < second).all()) or not bool((keys[1:] > keys[:-1]).all()):
            raise LexiconError(
                "edges: must be unique columns (i, j) with i < j, sorted by i, then j"
            )
        if int(self.edge_counts.min()) < 1:
            raise LexiconError(f"edge_counts: least is {int(self.edge_counts.min())}, must be >= 1")


def _proportional_shares(available: Counter[str], total: int) -> dict[str, int]:
    """Splits `total` over the keys in proportion (largest remainder), at least 1 for each."""
    num_words = sum(available.values())
    if not len(available) <= total <= num_words:
        raise LexiconError(
            f"subset: {total} words asked, must be in [{len(available)}, {num_words}]; "
            "take a larger lexicon or ask for fewer words"
        )
    exact = {part: total * count / num_words for part, count in available.items()}
    shares = {part: int(value) for part, value in exact.items()}
    by_remainder = sorted(exact, key=lambda part: shares[part] - exact[part])
    for part in by_remainder[: total - sum(shares.values())]:
        shares[part] += 1
    for part, share in shares.items():
        if share == 0:
            shares[max(shares, key=lambda name: shares[name])] -= 1
            shares[part] = 1
    return shares
