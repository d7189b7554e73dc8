"""The tokens of a batch of clips: what a tokenizer writes and a generator reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from sweettok.errors import ShapeError


@dataclass(frozen=True, repr=False)
class Tokens:
    """Token ids of a batch of clips; one id per query.

    Attributes:
        spatial: int64 [b, s], ids into the spatial vocabulary (nouns and adjectives).
        temporal: int64 [b, m], ids into the temporal vocabulary (verbs and adverbs); m is 0 for
            images.

    Raises:
        ShapeError: The two are not two-dimensional integer tensors of one batch size.
    """

    spatial: Int[Tensor, "b s"]
    temporal: Int[Tensor, "b m"]

    def __post_init__(self) -> None:
        for name in ("spatial", "temporal"):
            ids = getattr(self, name)
            if ids.ndim != 2 or ids.dtype != torch.int64:
                raise ShapeError(
                    f"{name} tokens must be int64 [batch, tokens], "
                    f"got {ids.dtype} {list(ids.shape)}"
                )
        if self.spatial.shape[0] != self.temporal.shape[0]:
            raise ShapeError(
                f"spatial tokens of {self.spatial.shape[0]} clips, temporal tokens of "
                f"{self.temporal.shape[0]}: both must be of the same clips"
            )

    def __len__(self) -> int:
        return self.spatial.shape[0]

    def __getitem__(self, clips: slice) -> Tokens:
        return Tokens(self.spatial[clips], self.temporal[clips])

    @classmethod
    def concatenated(cls, parts: Sequence[Tokens]) -> Tokens:
        """The tokens of several batches as one batch, in order."""
        return cls(
            torch.cat([part.spatial for part in parts]),
            torch.cat([part.temporal for part in parts]),
        )

    def __repr__(self) -> str:
        return f"Tokens(spatial={list(self.spatial.shape)}, temporal={list(self.temporal.shape)})"

    def equal(self, other: Tokens) -> bool:
        """Whether all ids are the same."""
        return torch.equal(self.spatial, other.spatial) and torch.equal(
            self.temporal, other.temporal
        )
