"""A video codec that spends the bits that a tokenizer spends, clip by clip, as well as it can.

At a thousand bits per clip no codec can keep every pixel of every frame, and its own way out is to
code fewer of them. So a clip is tried at several sizes and frame rates; at each the best quality
that fits the budget is searched for, and what comes back closest to the clip is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pydantic
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from pipeline.evaluation.bitstream import Standard
from pipeline.evaluation.tokenizers import EncodedClips, Video
from pipeline.evaluation.video_codec import (
    RECIPES,
    CodedClip,
    check_encoder,
    decode_clip,
    encode_clip,
)
from sweettok.errors import ShapeError
from sweettok.metrics import psnr_db
from sweettok.patches import pixels_to_video, video_to_pixels
from sweettok.strict_config import StrictConfig

_SMALLEST_EDGE_PX = 16
_PIXEL_RANGE = 2.0


class Reduction(StrictConfig):
    """What of a clip is coded; the rest is interpolated between what comes back.

    Attributes:
        shrink: Frames are coded at one n-th of their height and width.
        frame_stride: Every n-th frame is coded, and the last one.
    """

    shrink: int = pydantic.Field(default=1, ge=1)
    frame_stride: int = pydantic.Field(default=1, ge=1)


class RateConfig(StrictConfig):
    """How a codec is brought to a number of bits.

    Attributes:
        bits_per_clip: The budget; null takes that of the first tokenizer with ids.
        tolerance: Share of the budget by which a clip may exceed it, and below which it counts as
            matched. No clip exceeds it further unless even the smallest picture does.
        reductions: What is tried of every clip, the closest result is taken.
        preset: The encoder's; null takes a slow one.
        num_threads: Clips that are coded at one time, each on one thread; null takes one per core.
    """

    bits_per_clip: float | None = pydantic.Field(default=None, gt=0)
    tolerance: float = pydantic.Field(default=0.05, ge=0, lt=1)
    reductions: tuple[Reduction, ...] = pydantic.Field(
        default=(
            Reduction(),
            Reduction(shrink=2),
            Reduction(frame_stride=4),
            Reduction(shrink=2, frame_stride=4),
            Reduction(shrink=2, frame_stride=16),
            Reduction(shrink=4, frame_stride=4),
        ),
        min_length=1,
    )
    preset: str | None = None
    num_threads: int | None = pydantic.Field(default=None, ge=1)


@dataclass(frozen=True, eq=False)
class _Coded:
    """One way to code a clip, and what comes back."""

    clip: CodedClip
    shown: UInt8[Tensor, "t h w c"]
    psnr_db: float


class MatchedCodec:
    """Codes every clip in the bits that it may have.

    Args:
        standard: "h264", "h265" or "av1".
        bits_per_clip: The budget.
        rate: How it is met.

    Raises:
        PipelineError: This build of FFmpeg has no such encoder.
    """

    codebook_sizes: Mapping[str, int] = {}

    def __init__(self, standard: Standard, bits_per_clip: float, rate: RateConfig) -> None:
        check_encoder(RECIPES[standard])
        self.standard: Standard = standard
        self.bits_per_clip = bits_per_clip
        self.rate = rate

    def encode(self, video: Video) -> EncodedClips:
        """The packets of each clip.

        Raises:
            ShapeError: The encoder takes none of the sizes that are to be tried.
        """
        with ThreadPoolExecutor(self.rate.num_threads or os.cpu_count()) as pool:
            coded = list(pool.map(self._best, video_to_pixels(video).cpu()))
        return EncodedClips(
            torch.tensor([found.clip.picture_bits for found in coded], dtype=torch.float64),
            content=torch.stack([found.shown for found in coded]),
            packet_bits=torch.tensor(
                [found.clip.packet_bits for found in coded], dtype=torch.float64
            ),
        )

    def decode(self, encoded: EncodedClips) -> Video:
        """What the packets show; they were decoded to be chosen."""
        return pixels_to_video(encoded.content)

    def _best(self, pixels: UInt8[Tensor, "t h w c"]) -> _Coded:
        """The closest of those that fit; the smallest of all if none does.

        A reduction whose frames the encoder refuses is passed over, unless it refuses all.
        """
        found, refused = [], []
        for reduction in self._reductions(pixels):
            try:
                found.append(self._coded(pixels, reduction))
            except ShapeError as error:
                refused.append(error)
        if not found:
            raise refused[0]
        limit = self.bits_per_clip * (1 + self.rate.tolerance)
        fitting = [one for one in found if one.clip.picture_bits <= limit]
        if fitting:
            return max(fitting, key=lambda one: one.psnr_db)
        return min(found, key=lambda one: one.clip.picture_bits)

    def _reductions(self, pixels: UInt8[Tensor, "t h w c"]) -> Iterator[Reduction]:
        """Those that leave frames of a size that encoders take, and differ on this clip."""
        num_frames, height_px, width_px = pixels.shape[:3]
        seen = set()
        for reduction in self.rate.reductions:
            key = (reduction.shrink, min(reduction.frame_stride, num_frames - 1))
            is_small = min(height_px, width_px) < reduction.shrink * _SMALLEST_EDGE_PX
            if key not in seen and not (is_small and reduction.shrink > 1):
                seen.add(key)
                yield reduction
        if not seen:
            yield Reduction()

    def _coded(self, pixels: UInt8[Tensor, "t h w c"], reduction: Reduction) -> _Coded:
        kept = kept_frames(len(pixels), reduction.frame_stride)
        frames = shrunk(pixels[kept], reduction.shrink).numpy()
        clip = self._searched(frames)
        shown = enlarged(torch.from_numpy(decode_clip(clip)), kept, pixels.shape)
        value = psnr_db(
            pixels_to_video(pixels[None]), pixels_to_video(shown[None]), _PIXEL_RANGE
        ).item()
        return _Coded(clip, shown, value)

    def _searched(self, frames: UInt8[np.ndarray, "t h w c"]) -> CodedClip:
        """The best quality within the budget; the worst of all if none is.

        Halves the range of qualities: fewer bits for worse pictures is what encoders promise, and
        what they break only by little.
        """
        qualities = RECIPES[self.standard].qualities
        limit = self.bits_per_clip * (1 + self.rate.tolerance)
        low, high = 0, len(qualities) - 1
        best = encode_clip(frames, self.standard, qualities[high], self.rate.preset)
        if best.picture_bits > limit:
            return best
        while low < high:
            middle = (low + high) // 2
            tried = encode_clip(frames, self.standard, qualities[middle], self.rate.preset)
            if tried.picture_bits <= limit:
                best, high = tried, middle
            else:
                low = middle + 1
        return best


def kept_frames(num_frames: int, stride: int) -> list[int]:
    """Every `stride`-th frame, and the last one."""
    kept = list(range(0, num_frames, stride))
    return kept if kept[-1] == num_frames - 1 else [*kept, num_frames - 1]


def shrunk(frames: UInt8[Tensor, "t h w c"], factor: int) -> UInt8[Tensor, "t h2 w2 c"]:
    """Frames at one `factor`-th of their size, rounded to even sizes, antialiased."""
    if factor == 1:
        return frames
    size = [max(2, round(edge / factor / 2) * 2) for edge in frames.shape[1:3]]
    return _resized(frames, size)


def enlarged(
    frames: UInt8[Tensor, "k h2 w2 c"], kept: Sequence[int], shape: Sequence[int]
) -> UInt8[Tensor, "t h w c"]:
    """Frames at their size again; what was left out lies between its neighbours in time."""
    full = _resized(frames, shape[1:3])
    if len(kept) == shape[0]:
        return full
    times = torch.arange(shape[0])
    positions = torch.tensor(kept)
    after = torch.searchsorted(positions, times).clamp(1, len(kept) - 1)
    before = after - 1
    share = (times - positions[before]) / (positions[after] - positions[before])
    weight = rearrange(share, "t -> t 1 1 1")
    return torch.lerp(full[before].float(), full[after].float(), weight).round().byte()


def _resized(frames: UInt8[Tensor, "t h w c"], size: Sequence[int]) -> UInt8[Tensor, "t y x c"]:
    if tuple(frames.shape[1:3]) == tuple(size):
        return frames
    planes = rearrange(frames.float(), "t h w c -> t c h w")
    resized = F.interpolate(planes, size=tuple(size), mode="bicubic", antialias=True)
    return rearrange(resized.round().clamp(0, 255).byte(), "t c h w -> t h w c")
