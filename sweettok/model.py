"""SweetTok: video clips to compact discrete tokens that read as words, and back.

    tokenizer = SweetTok.from_pretrained("runs/quickstart/tokenizer")
    tokens = tokenizer.encode(video)            # video [b, c, t, h, w] in [-1, 1]
    clips = tokenizer.decode(tokens)            # the same shape
    tokenizer.words(tokens)[0].spatial[:3]      # the first clip's most used nouns and adjectives

Source: arXiv:2412.10443.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sweettok import persistence
from sweettok.attention import initialise_linear_layers
from sweettok.codebook import WordCodebook
from sweettok.config import SweetTokConfig
from sweettok.decoder import QueryDecoder
from sweettok.encoder import QueryEncoder
from sweettok.errors import LexiconError, ShapeError
from sweettok.lexicon import Lexicon
from sweettok.patches import NUM_CHANNELS
from sweettok.quantizer import WordQuantizer
from sweettok.tokens import Tokens


@dataclass(frozen=True)
class WordCount:
    """How often a word was used by a clip's tokens.

    Attributes:
        word: The word.
        part_of_speech: "noun", "adjective", "verb" or "adverb".
        count: Number of the clip's tokens that are this word.
    """

    word: str
    part_of_speech: str
    count: int


@dataclass(frozen=True)
class ClipWords:
    """The words of one clip, most used first."""

    spatial: tuple[WordCount, ...]
    temporal: tuple[WordCount, ...]


@dataclass(frozen=True, repr=False)
class SweetTokOutput:
    """What a forward pass gives.

    Attributes:
        reconstruction: float [b, c, t, h, w], nominally in [-1, 1].
        tokens: The clips' tokens.
        quantizer_loss: Scalar, both quantisers' weighted losses (0 in inference).
    """

    reconstruction: Tensor
    tokens: Tokens
    quantizer_loss: Tensor


class SweetTok(nn.Module):
    """The tokenizer: decoupled query encoder, two word quantisers, decoder.

    Args:
        config: Sizes.
        lexicon: Words of both codebooks; its sizes must be the config's.

    Raises:
        LexiconError: The lexicon has other sizes than the config asks for.
    """

    def __init__(self, config: SweetTokConfig, lexicon: Lexicon) -> None:
        super().__init__()
        _check_lexicon(config, lexicon)
        self.config = config
        self.lexicon = lexicon
        self.encoder = QueryEncoder(config)
        self.spatial_quantizer = WordQuantizer(lexicon.spatial, config.quantizer)
        self.temporal_quantizer = WordQuantizer(lexicon.temporal, config.quantizer)
        self.decoder = QueryDecoder(config)
        initialise_linear_layers(self.encoder)
        initialise_linear_layers(self.decoder)
        self.decoder.heads.start_grey()

    def forward(self, video: Float[Tensor, "b c t h w"]) -> SweetTokOutput:
        """Reconstructs `video` (values in [-1, 1]) through its tokens."""
        self._check_video(video)
        spatial_latents, temporal_latents = self.encoder(video)
        spatial = self.spatial_quantizer(spatial_latents)
        temporal = self.temporal_quantizer(temporal_latents)
        return SweetTokOutput(
            reconstruction=self.decoder(spatial.codes, temporal.codes),
            tokens=Tokens(spatial.ids, temporal.ids),
            quantizer_loss=spatial.loss + temporal.loss,
        )

    @torch.no_grad()
    def encode(self, video: Float[Tensor, "b c t h w"]) -> Tokens:
        """Tokens of `video` (values in [-1, 1]).

        Args:
            video: Clips of the configured geometry, or single frames (t = 1, image mode: no
                temporal tokens).

        Raises:
            ShapeError: The clips have another shape or type.
        """
        self._check_video(video)
        spatial_latents, temporal_latents = self.encoder(video)
        spatial = self.spatial_quantizer(spatial_latents)
        temporal = self.temporal_quantizer(temporal_latents)
        return Tokens(spatial.ids, temporal.ids)

    @torch.no_grad()
    def decode(self, tokens: Tokens) -> Float[Tensor, "b c t h w"]:
        """Clips of stored `tokens`, nominally in [-1, 1]; equal to what `forward` reconstructs.

        Raises:
            ShapeError: The number of tokens or an id does not fit the model.
        """
        self._check_tokens(tokens)
        return self.decoder(
            self.spatial_quantizer.lookup(tokens.spatial),
            self.temporal_quantizer.lookup(tokens.temporal),
        )

    def words(self, tokens: Tokens) -> list[ClipWords]:
        """The words that each clip's tokens are, most used first (ties by id)."""
        self._check_tokens(tokens)
        return [
            ClipWords(
                spatial=_count_words(spatial, self.spatial_quantizer.codebook),
                temporal=_count_words(temporal, self.temporal_quantizer.codebook),
            )
            for spatial, temporal in zip(
                tokens.spatial.tolist(), tokens.temporal.tolist(), strict=True
            )
        ]

    @torch.no_grad()
    def refresh_codes(self) -> None:
        """Brings the stored codes up to date with the parameters (does nothing if they are)."""
        for quantizer in (self.spatial_quantizer, self.temporal_quantizer):
            quantizer.codebook.current_codes()

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def save_pretrained(self, directory: str | Path) -> str:
        """Writes config, weights and lexicon to `directory`; returns the fingerprint."""
        return persistence.save_tokenizer(self, directory)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> SweetTok:
        """Loads a saved tokenizer in inference mode, verifying every file's hash.

        Raises:
            CheckpointError: A file is missing, was altered, or does not fit this architecture.
        """
        return persistence.load_tokenizer(cls, directory)

    def _check_video(self, video: Tensor) -> None:
        geometry = self.config.geometry
        clip = (NUM_CHANNELS, geometry.num_frames, geometry.height_px, geometry.width_px)
        image = (NUM_CHANNELS, 1, geometry.height_px, geometry.width_px)
        if video.ndim != 5 or tuple(video.shape[1:]) not in (clip, image):
            raise ShapeError(
                f"video must be [batch, {', '.join(map(str, clip))}] "
                f"(or one frame: [batch, {', '.join(map(str, image))}]), got {list(video.shape)}; "
                "resize and cut it first, or load a tokenizer of that geometry"
            )
        if not video.is_floating_point():
            raise ShapeError(
                f"video must be floating point in [-1, 1], got {video.dtype}; "
                "convert stored pixels with sweettok.pixels_to_video"
            )

    def _check_tokens(self, tokens: Tokens) -> None:
        counts = (tokens.spatial.shape[1], tokens.temporal.shape[1])
        allowed = (self.config.num_spatial_tokens, self.config.num_temporal_tokens)
        if counts not in (allowed, (allowed[0], 0)):
            raise ShapeError(
                f"a clip must have {allowed[0]} spatial and {allowed[1]} temporal tokens "
                f"(or no temporal ones: an image), got {counts[0]} and {counts[1]}"
            )
        for name, ids, codebook in (
            ("spatial", tokens.spatial, self.spatial_quantizer.codebook),
            ("temporal", tokens.temporal, self.temporal_quantizer.codebook),
        ):
            if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < codebook.num_words:
                raise ShapeError(
                    f"{name} ids must be in [0, {codebook.num_words}), got "
                    f"{int(ids.min())} to {int(ids.max())}; were they made by another tokenizer?"
                )


def _check_lexicon(config: SweetTokConfig, lexicon: Lexicon) -> None:
    for name, wanted, found in (
        ("num_spatial_words", config.num_spatial_words, lexicon.spatial.num_words),
        ("num_temporal_words", config.num_temporal_words, lexicon.temporal.num_words),
        ("word_dim", config.word_dim, lexicon.embedding_dim),
    ):
        if wanted != found:
            raise LexiconError(
                f"{name} is {wanted} in the model's config, but lexicon {lexicon.name!r} has "
                f"{found}; change the config or take another lexicon (or a subset of it)"
            )


def _count_words(ids: list[int], codebook: WordCodebook) -> tuple[WordCount, ...]:
    counted = sorted(Counter(ids).items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        WordCount(codebook.words[index], codebook.parts_of_speech[index], count)
        for index, count in counted
    )
