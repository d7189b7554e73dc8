"""What all baselines share: the interface of `SweetTok`, for one clip size and single frames."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sweettok.config import SweetTokConfig
from sweettok.errors import ShapeError
from sweettok.model import SweetTokOutput
from sweettok.patches import NUM_CHANNELS
from sweettok.quantizer import WordQuantizer
from sweettok.tokens import Tokens


@dataclass(frozen=True)
class QuantizedLatents:
    """Both kinds of latents after quantising.

    Attributes:
        spatial: float [b, s, e], codes of the spatial tokens.
        temporal: float [b, m, e], codes of the temporal tokens.
        tokens: Their ids.
        loss: Scalar, weighted quantiser losses, summed over two quantisers.
        terms: Unweighted loss terms by name.
    """

    spatial: Float[Tensor, "b s e"]
    temporal: Float[Tensor, "b m e"]
    tokens: Tokens
    loss: Float[Tensor, ""]
    terms: dict[str, Tensor]


class BaselineTokenizer(nn.Module, abc.ABC):
    """A tokenizer with an encoder to two groups of latents and a decoder from their codes.

    A subclass makes `encoder` (video → spatial and temporal latents), `decoder` (their codes →
    video) and its quantisers.

    Args:
        config: Sizes; the numbers of words are those of the baseline's own codebooks.

    Clips have the configured geometry, or one frame of it (image mode, no temporal tokens).
    """

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, config: SweetTokConfig) -> None:
        super().__init__()
        self.config = config

    @abc.abstractmethod
    def quantise(
        self, spatial: Float[Tensor, "b s e"], temporal: Float[Tensor, "b m e"]
    ) -> QuantizedLatents:
        """Replaces both groups of latents by codes."""

    @abc.abstractmethod
    def quantizers(self) -> tuple[WordQuantizer, WordQuantizer]:
        """The quantiser of the spatial and that of the temporal tokens; may be one and the same."""

    def forward(self, video: Float[Tensor, "b c t h w"]) -> SweetTokOutput:
        """Reconstructs `video` (values in [-1, 1]) through its tokens.

        Raises:
            ShapeError: The clips have another shape or type.
        """
        self._check_video(video)
        found = self.quantise(*self.encoder(video))
        return SweetTokOutput(
            reconstruction=self.decoder(found.spatial, found.temporal),
            tokens=found.tokens,
            quantizer_loss=found.loss,
            quantizer_terms=found.terms,
        )

    @torch.no_grad()
    def encode(self, video: Float[Tensor, "b c t h w"]) -> Tokens:
        """Tokens of `video` (values in [-1, 1]).

        Raises:
            ShapeError: The clips have another shape or type.
        """
        self._check_video(video)
        return self.quantise(*self.encoder(video)).tokens

    @torch.no_grad()
    def decode(self, tokens: Tokens) -> Float[Tensor, "b c t h w"]:
        """Clips of stored `tokens`, nominally in [-1, 1]; equal to what `forward` reconstructs.

        Raises:
            ShapeError: The number of tokens or an id does not fit.
        """
        self._check_tokens(tokens)
        spatial, temporal = self.quantizers()
        return self.decoder(spatial.lookup(tokens.spatial), temporal.lookup(tokens.temporal))

    @torch.no_grad()
    def refresh_codes(self) -> None:
        """Brings the stored codes up to date with the parameters."""
        for quantizer in self.quantizers():
            quantizer.codebook.current_codes()

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def bits_per_clip(self) -> float:
        """Bits of the tokens of one clip if all words were equally likely."""
        return self.config.bits_per_clip

    def _check_video(self, video: Tensor) -> None:
        geometry = self.config.geometry
        clip = (NUM_CHANNELS, geometry.num_frames, geometry.height_px, geometry.width_px)
        image = (NUM_CHANNELS, 1, geometry.height_px, geometry.width_px)
        if video.ndim != 5 or tuple(video.shape[1:]) not in (clip, image):
            raise ShapeError(
                f"video must be [batch, {', '.join(map(str, clip))}] or one frame of it, "
                f"got {list(video.shape)}; a baseline takes the configured geometry only"
            )
        if not video.is_floating_point():
            raise ShapeError(f"video must be floating point in [-1, 1], got {video.dtype}")

    def _check_tokens(self, tokens: Tokens) -> None:
        counts = (tokens.spatial.shape[1], tokens.temporal.shape[1])
        clip = (self.config.num_spatial_tokens, self.config.num_temporal_tokens)
        if counts not in (clip, (clip[0], 0)):
            raise ShapeError(
                f"a clip has {clip[0]} spatial and {clip[1]} temporal tokens (an image no "
                f"temporal ones), got {counts[0]} and {counts[1]}"
            )
        for ids, quantizer in zip(
            (tokens.spatial, tokens.temporal), self.quantizers(), strict=True
        ):
            _check_ids(ids, quantizer.codebook.num_words)


def _check_ids(ids: Int[Tensor, "b n"], num_words: int) -> None:
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_words:
        raise ShapeError(
            f"ids must be in [0, {num_words}), got {int(ids.min())} to {int(ids.max())}; "
            "were they made by another tokenizer?"
        )
