"""Where the tokens of a clip's words look, as strips of frames that are lit there."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pipeline.preview.video_files import Frames
from sweettok import SweetTok, Tokens, pixels_to_video
from sweettok.attention_maps import attention_maps
from sweettok.codebook import Codebook
from sweettok.errors import ShapeError
from sweettok.model import WordCount

MAX_STRIP_FRAMES = 5
STRIP_FRAME_PX = 96  # frames of a strip are at most so high or wide
UNLIT = 0.35  # what is left of a frame where no token of the word looks
GAP_PX = 2


@dataclass(frozen=True, slots=True, eq=False)
class WordMap:
    """Where the tokens of one word look.

    Attributes:
        word: The word, and how many of the clip's tokens are it.
        weights: float array [latent frames, rows, columns] in [0, 1], the largest value 1; 0 in
            frames that none of its tokens was read from.
        tube_frames: Frames of each latent frame after the first, which is one frame.
    """

    word: WordCount
    weights: Float[np.ndarray, "l y x"]
    tube_frames: int

    def __post_init__(self) -> None:
        if self.weights.ndim != 3 or not self.weights.size or self.tube_frames < 1:
            raise ShapeError(
                f"map of {self.word.word!r} must be [latent frames, rows, columns] with "
                f"tube_frames >= 1, found {list(self.weights.shape)}, {self.tube_frames}"
            )

    def __repr__(self) -> str:
        return f"WordMap(word={self.word!r}, weights={list(self.weights.shape)})"


def word_maps(
    model: SweetTok, frames: Frames, tokens: Tokens, max_words: int
) -> tuple[tuple[WordMap, ...], tuple[WordMap, ...]]:
    """Maps of the spatial and of the temporal words of a clip, most used words first.

    Args:
        model: The tokenizer, in inference mode.
        frames: The clip that was encoded.
        tokens: Its tokens, a batch of one.
        max_words: At most so many of each.
    """
    device = next(model.parameters()).device
    maps = attention_maps(model, pixels_to_video(torch.from_numpy(frames)[None]).to(device))
    (words,) = model.words(tokens)
    first, tube_frames = maps.spatial[0].cpu(), model.config.geometry.tube_frames
    num_tubes = (len(frames) - 1) // tube_frames
    # A spatial token is read once for all frames, or from the first one alone.
    shown = torch.ones(1 + num_tubes)
    if model.config.encoder.spatial_source == "first":
        shown[1:] = 0
    over_time = first[:, None] * shown[:, None, None]
    spatial = _by_word(
        words.spatial[:max_words],
        tokens.spatial[0].cpu(),
        over_time,
        model.spatial_quantizer.codebook,
        tube_frames,
    )
    temporal = _by_word(
        words.temporal[:max_words],
        tokens.temporal[0].cpu(),
        _in_their_tubes(maps.temporal[0].cpu(), num_tubes),
        model.temporal_quantizer.codebook,
        tube_frames,
    )
    return spatial, temporal


def lit_strip(frames: Frames, word_map: WordMap) -> bytes:
    """Frames side by side, bright where the word's tokens look, as one JPEG.

    Args:
        frames: The whole clip.
        word_map: Of one of its words.
    """
    num_latents = len(word_map.weights)
    count = min(MAX_STRIP_FRAMES, num_latents)
    shown = np.linspace(0, num_latents - 1, count).round().astype(int)
    lit = [
        _lit(frames[_middle_frame(latent, word_map.tube_frames)], word_map.weights[latent])
        for latent in shown.tolist()
    ]
    width, height = lit[0].size
    strip = Image.new("RGB", (count * (width + GAP_PX) - GAP_PX, height), (128, 128, 128))
    for column, image in enumerate(lit):
        strip.paste(image, (column * (width + GAP_PX), 0))
    content = io.BytesIO()
    strip.save(content, format="JPEG", quality=82)
    return content.getvalue()


def _by_word(
    words: Sequence[WordCount],
    ids: Tensor,
    maps: Float[Tensor, "tokens l y x"],
    codebook: Codebook,
    tube_frames: int,
) -> tuple[WordMap, ...]:
    found = []
    for word in words:
        named = [
            codebook.words[code] == word.word
            and codebook.parts_of_speech[code] == word.part_of_speech
            for code in ids.tolist()
        ]
        total = maps[torch.tensor(named)].sum(dim=0)
        weights = (total / total.max().clamp_min(1e-12)).numpy()
        found.append(WordMap(word, weights, tube_frames))
    return tuple(found)


def _in_their_tubes(maps: Float[Tensor, "m y x"], num_tubes: int) -> Float[Tensor, "m l y x"]:
    """Each token's map at its tube's place, zeros elsewhere (tokens lie tube by tube)."""
    num_tokens, rows, columns = maps.shape
    placed = maps.new_zeros(num_tokens, 1 + num_tubes, rows, columns)
    tokens = torch.arange(num_tokens)
    placed[tokens, 1 + tokens * num_tubes // max(1, num_tokens)] = maps
    return placed


def _middle_frame(latent: int, tube_frames: int) -> int:
    return 0 if latent == 0 else 1 + (latent - 1) * tube_frames + tube_frames // 2


def _lit(image: np.ndarray, weights: Float[np.ndarray, "y x"]) -> Image.Image:
    height, width = image.shape[:2]
    scale = min(1.0, STRIP_FRAME_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    light = Image.fromarray((255 * weights).astype(np.uint8)).resize(
        size, Image.Resampling.BILINEAR
    )
    share = np.asarray(light, np.float32)[..., None] / 255
    small = np.asarray(Image.fromarray(image).resize(size), np.float32)
    bright = 30 + small * (225 / 255)
    grey = small.mean(axis=-1, keepdims=True)
    dim = UNLIT * grey + 25
    return Image.fromarray((dim + share * (bright - dim)).clip(0, 255).astype(np.uint8))
