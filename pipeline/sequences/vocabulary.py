"""The vocabulary of token sequences: one range of ids for both codebooks, classes and marks.

    0 pad · 1 begin · 2 end · 3 no class · classes · spatial ids · temporal ids

A flat sequence of one clip, for generators:

    begin · class or no class · s spatial ids · m temporal ids, tube by tube · end

The order is that of the picture: appearance first, then motion in time, so that a sequence cut
after some tubes is the beginning of the clip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pipeline.dataset.lineage import Lineage
from pipeline.errors import PipelineError
from sweettok.tokens import Tokens

PAD, BEGIN, END, NO_CLASS = range(4)
_NUM_MARKS = 4
_NUM_BEFORE, _NUM_AFTER = 2, 1  # begin and class; end


class SequenceError(PipelineError):
    """A sequence is not one of the vocabulary, or clips do not fit it."""


@dataclass(frozen=True)
class SequenceVocabulary:
    """Ids and lengths of the sequences of one tokenizer's clips.

    Attributes:
        num_spatial_words, num_temporal_words: Codebook sizes.
        num_spatial_tokens, num_temporal_tokens: Tokens per clip (s and m).
        num_tubes: Tubes per clip; each has m / num_tubes of the temporal tokens.
        class_names: Names of the classes, in the order of their ids.
    """

    num_spatial_words: int
    num_temporal_words: int
    num_spatial_tokens: int
    num_temporal_tokens: int
    num_tubes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_tubes and self.num_temporal_tokens % self.num_tubes:
            raise SequenceError(
                f"{self.num_temporal_tokens} temporal tokens cannot be those of {self.num_tubes} "
                "tubes: the first must be a multiple of the second"
            )
        if len(set(self.class_names)) < len(self.class_names):
            raise SequenceError(f"class names must differ, got {', '.join(self.class_names)}")

    @classmethod
    def of_lineage(cls, lineage: Lineage, class_names: tuple[str, ...] = ()) -> SequenceVocabulary:
        """The vocabulary of a token dataset."""
        return cls(
            lineage.num_spatial_words,
            lineage.num_temporal_words,
            lineage.num_spatial_tokens,
            lineage.num_temporal_tokens,
            lineage.geometry.num_tubes,
            class_names,
        )

    @property
    def first_class(self) -> int:
        """Id of the first class."""
        return _NUM_MARKS

    @property
    def first_spatial(self) -> int:
        """Id of spatial word 0."""
        return _NUM_MARKS + len(self.class_names)

    @property
    def first_temporal(self) -> int:
        """Id of temporal word 0."""
        return self.first_spatial + self.num_spatial_words

    @property
    def size(self) -> int:
        """Number of ids; all are in [0, size)."""
        return self.first_temporal + self.num_temporal_words

    @property
    def length(self) -> int:
        """Ids of one clip's sequence."""
        return _NUM_BEFORE + self.num_spatial_tokens + self.num_temporal_tokens + _NUM_AFTER

    @property
    def tokens_per_tube(self) -> int:
        """Temporal tokens of each tube."""
        return self.num_temporal_tokens // self.num_tubes if self.num_tubes else 0

    def class_id(self, name: str | None) -> int:
        """The id of a class by name; that of "no class" for None.

        Raises:
            SequenceError: There is no such class.
        """
        if name is None:
            return NO_CLASS
        if name not in self.class_names:
            known = ", ".join(self.class_names) or "none"
            raise SequenceError(f"there is no class {name!r}; the classes are: {known}")
        return self.first_class + self.class_names.index(name)

    def class_ids(self, values: Iterable[Any]) -> Int[Tensor, " b"]:
        """The ids of a column's values, by the names that they have as texts.

        Raises:
            SequenceError: There is no such class.
        """
        names = (None if value is None else str(value) for value in values)
        return torch.tensor([self.class_id(name) for name in names], dtype=torch.long)

    def legal_ids(self) -> Int[Tensor, "l 2"]:
        """For each place of a sequence the range [first, last) of ids that may stand there."""
        places = [(BEGIN, BEGIN + 1), (NO_CLASS, self.first_spatial)]
        places += [(self.first_spatial, self.first_temporal)] * self.num_spatial_tokens
        places += [(self.first_temporal, self.size)] * self.num_temporal_tokens
        return torch.tensor([*places, (END, END + 1)])

    def is_legal(self, sequences: Int[Tensor, "b l"]) -> Bool[Tensor, " b"]:
        """Whether each sequence is whole and has a legal id at every place."""
        if sequences.shape[1] != self.length:
            return torch.zeros(len(sequences), dtype=torch.bool, device=sequences.device)
        first, last = self.legal_ids().to(sequences.device).unbind(1)
        return ((sequences >= first) & (sequences < last)).all(dim=1)

    def to_sequences(
        self, tokens: Tokens, class_ids: Int[Tensor, " b"] | None = None
    ) -> Int[Tensor, "b l"]:
        """The flat sequences of whole clips.

        Args:
            tokens: The clips.
            class_ids: Ids as `class_id` gives them; None: no class.

        Raises:
            SequenceError: The clips have other numbers of tokens, or an id is out of range.
        """
        self._check(tokens)
        spatial, temporal = tokens.spatial, tokens.temporal
        column = spatial.new_full((len(tokens), 1), BEGIN)
        if class_ids is None:
            classes = torch.full_like(column, NO_CLASS)
        else:
            classes = class_ids.to(column).unsqueeze(1)
        sequences = torch.cat(
            [
                column,
                classes,
                spatial + self.first_spatial,
                temporal + self.first_temporal,
                torch.full_like(column, END),
            ],
            dim=1,
        )
        if not bool(self.is_legal(sequences).all()):
            raise SequenceError(
                f"class ids must be in [{NO_CLASS}, {self.first_spatial}), got "
                f"{sorted(set(classes.flatten().tolist()))[:10]}"
            )
        return sequences

    def to_tokens(self, sequences: Int[Tensor, "b l"]) -> tuple[Tokens, Int[Tensor, " b"]]:
        """The clips and class ids of flat sequences: the inverse of `to_sequences`.

        Raises:
            SequenceError: A sequence has another length, or an id where it may not stand.
        """
        legal = self.is_legal(sequences)
        if not bool(legal.all()):
            bad = int((~legal).nonzero()[0])
            raise SequenceError(f"sequence {bad} is no clip: {self._fault(sequences[bad])}")
        spatial_end = _NUM_BEFORE + self.num_spatial_tokens
        return (
            Tokens(
                sequences[:, _NUM_BEFORE:spatial_end].long() - self.first_spatial,
                sequences[:, spatial_end:-1].long() - self.first_temporal,
            ),
            sequences[:, 1].long(),
        )

    def prefix_length(self, num_tubes: int) -> int:
        """Ids up to the end of the first latent frame and `num_tubes` tubes: what frame prediction
        is conditioned on.

        Raises:
            SequenceError: A clip has not so many tubes.
        """
        if not 0 <= num_tubes <= self.num_tubes:
            raise SequenceError(f"a clip has 0 to {self.num_tubes} tubes, got {num_tubes}")
        return _NUM_BEFORE + self.num_spatial_tokens + num_tubes * self.tokens_per_tube

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, for a file beside a model."""
        return {**self.__dict__, "class_names": list(self.class_names)}

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> SequenceVocabulary:
        """Reads what `to_mapping` gave.

        Raises:
            SequenceError: Something is missing or unknown.
        """
        try:
            return cls(**{**values, "class_names": tuple(values["class_names"])})
        except (KeyError, TypeError) as error:
            raise SequenceError(f"this is no vocabulary of sequences: {error!r}") from error

    def _check(self, tokens: Tokens) -> None:
        for name, ids, count, words in (
            ("spatial", tokens.spatial, self.num_spatial_tokens, self.num_spatial_words),
            ("temporal", tokens.temporal, self.num_temporal_tokens, self.num_temporal_words),
        ):
            if ids.shape[1] != count:
                raise SequenceError(
                    f"clips have {ids.shape[1]} {name} tokens, the vocabulary is of clips with "
                    f"{count}"
                )
            if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= words):
                raise SequenceError(
                    f"{name} ids are in [{int(ids.min())}, {int(ids.max())}], the codebook has "
                    f"{words} words"
                )

    def _fault(self, sequence: Int[Tensor, " l"]) -> str:
        if len(sequence) != self.length:
            return f"it has {len(sequence)} ids, a clip has {self.length}"
        first, last = self.legal_ids().to(sequence.device).unbind(1)
        place = int(((sequence < first) | (sequence >= last)).nonzero()[0])
        return (
            f"id {int(sequence[place])} at place {place}, where only "
            f"[{int(first[place])}, {int(last[place])}) may stand"
        )
