"""What can be evaluated: anything that encodes clips and decodes them again.

    class MyTokenizer:
        codebook_sizes = {"codes": 8192}

        def encode(self, video):            # float [b, 3, t, h, w] in [-1, 1]
            return EncodedClips.of_ids({"codes": ids}, self.codebook_sizes)

        def decode(self, encoded):          # the same shape
            return self.decoder(encoded.ids["codes"])

`{kind: python, factory: my_package.my_module:make_tokenizer}` evaluates it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sweettok.baselines import FlattenedQueryTokenizer
from sweettok.baselines.variants import AnyTokenizer
from sweettok.geometry import ClipGeometry
from sweettok.model import SweetTok
from sweettok.tokens import Tokens

Video = Float[Tensor, "b c t h w"]


@dataclass(frozen=True, eq=False)
class EncodedClips:
    """What a batch of clips became.

    Attributes:
        bits: float64 [b], bits of each clip as it would be stored: for ids the logarithm of the
            codebook's size, for a video codec what `pipeline.evaluation.bitstream` counts.
        ids: Chosen codes by codebook, int64 [b, n]; none for a video codec.
        content: What else decoding takes; None if the ids are enough.
        packet_bits: float64 [b], bits of a video codec's packets with all their headers.
    """

    bits: Float[Tensor, " b"]
    ids: Mapping[str, Int[Tensor, "b n"]] = field(default_factory=dict)
    content: Any = None
    packet_bits: Float[Tensor, " b"] | None = None

    @classmethod
    def of_ids(
        cls, ids: Mapping[str, Int[Tensor, "b n"]], codebook_sizes: Mapping[str, int]
    ) -> EncodedClips:
        """Clips that are ids and nothing else: log2 of the codebook's size bits for each."""
        num_clips = len(next(iter(ids.values())))
        bits = sum(found.shape[1] * math.log2(codebook_sizes[name]) for name, found in ids.items())
        return cls(torch.full((num_clips,), bits, dtype=torch.float64), ids)


class VideoTokenizer(Protocol):
    """Encodes and decodes clips.

    Attributes:
        codebook_sizes: Number of codes of each codebook, by name; empty for a video codec.
    """

    codebook_sizes: Mapping[str, int]

    def encode(self, video: Video) -> EncodedClips:
        """What `video`, RGB in [-1, 1], becomes."""

    def decode(self, encoded: EncodedClips) -> Video:
        """Clips of the shape that was encoded, nominally in [-1, 1]."""


class WordTokenizer:
    """`SweetTok`, or a baseline of `sweettok.baselines`, at whatever size the clips have.

    Args:
        model: In inference mode.
    """

    def __init__(self, model: AnyTokenizer) -> None:
        self.model = model
        self._is_union = isinstance(model, FlattenedQueryTokenizer)
        config = model.config
        self.codebook_sizes: Mapping[str, int] = (
            {"union": config.num_spatial_words}
            if self._is_union
            else {"spatial": config.num_spatial_words, "temporal": config.num_temporal_words}
        )

    @torch.no_grad()
    def encode(self, video: Video) -> EncodedClips:
        """The clips' tokens.

        Raises:
            ShapeError: The model takes no clips of this size.
        """
        tokens = self.model.encode(video)
        geometry = None
        if isinstance(self.model, SweetTok):
            num_frames, height_px, width_px = video.shape[2:]
            geometry = self.model.config.geometry.of_size(
                num_frames=num_frames, height_px=height_px, width_px=width_px
            )
        encoded = EncodedClips.of_ids(self._by_codebook(tokens), self.codebook_sizes)
        return EncodedClips(encoded.bits, encoded.ids, _SizedTokens(tokens, geometry))

    @torch.no_grad()
    def decode(self, encoded: EncodedClips) -> Video:
        """The clips of the tokens."""
        found: _SizedTokens = encoded.content
        if isinstance(self.model, SweetTok):
            return self.model.decode(found.tokens, found.geometry)
        return self.model.decode(found.tokens)

    def _by_codebook(self, tokens: Tokens) -> dict[str, Tensor]:
        if self._is_union:
            return {"union": torch.cat([tokens.spatial, tokens.temporal], dim=1)}
        return {"spatial": tokens.spatial, "temporal": tokens.temporal}


@dataclass(frozen=True)
class _SizedTokens:
    tokens: Tokens
    geometry: ClipGeometry | None


class StillPicture:
    """The first frame, all the time: what is not above it has kept nothing of motion.

    It has no bits: it is a yardstick, not a codec.
    """

    codebook_sizes: Mapping[str, int] = {}

    def encode(self, video: Video) -> EncodedClips:
        """Keeps the first frames."""
        unknown = torch.full((len(video),), math.nan, dtype=torch.float64)
        return EncodedClips(unknown, content=(video[:, :, :1], video.shape[2]))

    def decode(self, encoded: EncodedClips) -> Video:
        """Repeats them."""
        first, num_frames = encoded.content
        return first.expand(-1, -1, num_frames, -1, -1)
