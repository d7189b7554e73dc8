"""SweetTok: video clips to compact discrete tokens that read as words, and back.

    tokenizer = SweetTok.from_pretrained("natural_64")   # or a directory, or a hub id
    tokens = tokenizer.encode(video)            # video [b, c, t, h, w] in [-1, 1]
    clips = tokenizer.decode(tokens)            # the same shape
    tokenizer.words(tokens)[0].spatial[:3]      # the first clip's most used nouns and adjectives

Clips may have other sizes than the configured one: `encode` sees them, `decode` is told. Videos
longer or larger than a clip go through sweettok/tiling.py. In inference on a CPU clips are
processed one at a time, so that ids and pixels of a clip do not depend on its batch.

Source: arXiv:2412.10443.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sweettok import persistence
from sweettok.attention import initialise_linear_layers
from sweettok.config import SweetTokConfig
from sweettok.decoder import QueryDecoder
from sweettok.encoder import QueryEncoder
from sweettok.errors import LexiconError, ShapeError
from sweettok.geometry import ClipGeometry
from sweettok.layout import TokenLayout, latent_layout, token_layout
from sweettok.lexicon import Lexicon
from sweettok.patches import NUM_CHANNELS
from sweettok.quantizer import QuantizerOutput, WordQuantizer
from sweettok.tokens import Tokens

if TYPE_CHECKING:
    from sweettok.codebook import Codebook


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
        quantizer_terms: Scalars, the unweighted terms of that loss by name (none in inference).
    """

    reconstruction: Tensor
    tokens: Tokens
    quantizer_loss: Tensor
    quantizer_terms: dict[str, Tensor] = field(default_factory=dict)


class SweetTok(nn.Module):
    """The tokenizer: decoupled query encoder, two word quantisers, decoder.

    Args:
        config: Sizes.
        lexicon: Words of both codebooks; its sizes must be the config's.

    Attributes:
        batch_invariant: Whether, in inference on a CPU, each clip is computed alone, so that its
            ids cannot depend on its batch. Costs nothing for clips of the paper's size; for clips
            of 64×64 px, False takes less than half the time, without the guarantee (LOG.md).

    Raises:
        LexiconError: The lexicon has other sizes than the config asks for.
    """

    def __init__(self, config: SweetTokConfig, lexicon: Lexicon) -> None:
        super().__init__()
        self.batch_invariant = True
        check_lexicon(config, lexicon)
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
        """Reconstructs `video` (values in [-1, 1]) through its tokens.

        Raises:
            ShapeError: See `encode`.
        """
        layout = self._layout_of(video)
        if not self._takes_clips_singly(video):
            return self._reconstruct(video, layout)
        outputs = [self._reconstruct(clip, layout) for clip in video.split(1)]
        return SweetTokOutput(
            reconstruction=torch.cat([output.reconstruction for output in outputs]),
            tokens=Tokens.concatenated([output.tokens for output in outputs]),
            quantizer_loss=outputs[0].quantizer_loss,
        )

    @torch.no_grad()
    def encode(self, video: Float[Tensor, "b c t h w"]) -> Tokens:
        """Tokens of `video` (values in [-1, 1]).

        Args:
            video: Clips of 1 + k·tube_frames frames (one frame: image mode, no temporal tokens)
                whose height and width are multiples of the patch and of the query windows.

        Raises:
            ShapeError: The clips have another shape or type.
        """
        self._layout_of(video)
        singly = self._takes_clips_singly(video)
        parts = [self._quantise(part) for part in (video.split(1) if singly else [video])]
        return Tokens.concatenated(
            [Tokens(spatial.ids, temporal.ids) for spatial, temporal in parts]
        )

    @torch.no_grad()
    def decode(
        self, tokens: Tokens, geometry: ClipGeometry | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """Clips of stored `tokens`, nominally in [-1, 1]; equal to what `forward` reconstructs.

        Args:
            tokens: Tokens of clips or, without temporal ones, of images.
            geometry: Size of the clips where it is not the configured one
                (`config.geometry.of_size(...)`).

        Raises:
            ShapeError: The number of tokens does not fit the geometry, or an id the codebooks.
        """
        layout = token_layout(self.config, geometry or self.config.geometry)
        self._check_counts(tokens, layout)
        self._check_ids(tokens)
        singly = self._takes_clips_singly(tokens.spatial)
        size = 1 if singly else max(1, len(tokens))
        pairs = zip(tokens.spatial.split(size), tokens.temporal.split(size), strict=True)
        return torch.cat(
            [
                self.decoder(
                    self.spatial_quantizer.lookup(spatial),
                    self.temporal_quantizer.lookup(temporal),
                    layout,
                )
                for spatial, temporal in pairs
            ]
        )

    def words(self, tokens: Tokens) -> list[ClipWords]:
        """The words that each clip's tokens are, most used first (ties by id).

        Raises:
            ShapeError: An id does not fit the codebooks.
        """
        self._check_ids(tokens)
        return [
            ClipWords(
                spatial=_count_words(spatial, self.spatial_quantizer.codebook),
                temporal=_count_words(temporal, self.temporal_quantizer.codebook),
            )
            for spatial, temporal in zip(
                tokens.spatial.tolist(), tokens.temporal.tolist(), strict=True
            )
        ]

    def bits_per_clip(self, geometry: ClipGeometry | None = None) -> float:
        """Bits of the tokens of one clip of `geometry` (the configured one if None).

        Raises:
            ShapeError: The tokenizer cannot take clips of that geometry.
        """
        layout = token_layout(self.config, geometry or self.config.geometry)
        return layout.bits_per_clip(self.config)

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
    def from_pretrained(cls, source: str | Path, *, local_files_only: bool = False) -> SweetTok:
        """Loads a saved tokenizer in inference mode, verifying every file's hash.

        Args:
            source: A directory, or a repository of the Hugging Face hub: "owner/name" or
                "owner/name@revision" (see sweettok/hub.py).
            local_files_only: Never ask the hub, take what was fetched before.

        Raises:
            CheckpointError: A file is missing, was altered, or does not fit this architecture; or
                the hub does not give it.
        """
        return persistence.load_tokenizer(cls, source, local_files_only=local_files_only)

    def _quantise(self, video: Tensor) -> tuple[QuantizerOutput, QuantizerOutput]:
        spatial_latents, temporal_latents = self.encoder(video)
        return self.spatial_quantizer(spatial_latents), self.temporal_quantizer(temporal_latents)

    def _reconstruct(self, video: Tensor, layout: TokenLayout) -> SweetTokOutput:
        spatial, temporal = self._quantise(video)
        terms = {f"spatial_{name}": value for name, value in spatial.terms.items()}
        terms |= {f"temporal_{name}": value for name, value in temporal.terms.items()}
        return SweetTokOutput(
            reconstruction=self.decoder(spatial.codes, temporal.codes, layout),
            tokens=Tokens(spatial.ids, temporal.ids),
            quantizer_loss=spatial.loss + temporal.loss,
            quantizer_terms=terms,
        )

    def _takes_clips_singly(self, batch: Tensor) -> bool:
        """Whether each clip is computed alone: matrix products round by the size of the batch."""
        if self.training or not self.batch_invariant or torch.compiler.is_compiling():
            return False
        return batch.device.type == "cpu" and batch.shape[0] > 1

    def _layout_of(self, video: Tensor) -> TokenLayout:
        geometry = self.config.geometry
        if video.ndim != 5 or video.shape[1] != NUM_CHANNELS:
            raise ShapeError(
                f"video must be [batch, {NUM_CHANNELS}, frames, height, width], such as "
                f"[batch, {NUM_CHANNELS}, {geometry.num_frames}, {geometry.height_px}, "
                f"{geometry.width_px}], got {list(video.shape)}"
            )
        if not video.is_floating_point():
            raise ShapeError(
                f"video must be floating point in [-1, 1], got {video.dtype}; "
                "convert stored pixels with sweettok.pixels_to_video"
            )
        frames, height, width = video.shape[2:]
        patch, tube = geometry.patch_px, geometry.tube_frames
        if min(frames, height, width) < 1 or (frames - 1) % tube or height % patch or width % patch:
            geometry.of_size(
                num_frames=frames, height_px=height, width_px=width
            )  # says what is wrong
        return latent_layout(self.config, (frames - 1) // tube, height // patch, width // patch)

    def _check_counts(self, tokens: Tokens, layout: TokenLayout) -> None:
        counts = (tokens.spatial.shape[1], tokens.temporal.shape[1])
        allowed = (layout.num_spatial_tokens, layout.num_temporal_tokens)
        if counts not in (allowed, (allowed[0], 0)):
            raise ShapeError(
                f"a clip of this geometry has {allowed[0]} spatial and {allowed[1]} temporal "
                f"tokens (or no temporal ones: an image), got {counts[0]} and {counts[1]}; for "
                "clips of another size give decode their geometry"
            )

    def _check_ids(self, tokens: Tokens) -> None:
        for name, ids, codebook in (
            ("spatial", tokens.spatial, self.spatial_quantizer.codebook),
            ("temporal", tokens.temporal, self.temporal_quantizer.codebook),
        ):
            if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < codebook.num_words:
                raise ShapeError(
                    f"{name} ids must be in [0, {codebook.num_words}), got "
                    f"{int(ids.min())} to {int(ids.max())}; were they made by another tokenizer?"
                )


def check_lexicon(config: SweetTokConfig, lexicon: Lexicon) -> None:
    """Checks that a lexicon has the sizes that a model asks for.

    Raises:
        LexiconError: It has others.
    """
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


def _count_words(ids: list[int], codebook: Codebook) -> tuple[WordCount, ...]:
    counted = sorted(Counter(ids).items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        WordCount(codebook.words[index], codebook.parts_of_speech[index], count)
        for index, count in counted
    )
