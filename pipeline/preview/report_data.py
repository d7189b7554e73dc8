"""What a report page shows, as small frozen records that check their own shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from pipeline.preview.video_files import Frames, check_frames
from sweettok.errors import ShapeError
from sweettok.model import WordCount


@dataclass(frozen=True, slots=True, eq=False)
class ClipPreview:
    """One clip before and after the tokenizer.

    Attributes:
        title: Which video it is from; any text, it is escaped.
        start_s, end_s: Where in the video it lies, in seconds.
        original: uint8 array [time, height, width, 3], RGB, in [0, 255].
        reconstruction: Same shape, decoded from the stored tokens.
        psnr_db: Of the reconstruction, in decibels; infinity if both are equal.
        spatial_words: The clip's spatial tokens as words, most frequent first.
        temporal_words: The clip's temporal tokens as words, most frequent first.
        bits: Size of the clip's tokens in bits.
        num_tokens: How many tokens the clip has.
        fps: Frames per second to play it at.
    """

    title: str
    start_s: float
    end_s: float
    original: Frames
    reconstruction: Frames
    psnr_db: float
    spatial_words: tuple[WordCount, ...]
    temporal_words: tuple[WordCount, ...]
    bits: float
    num_tokens: int
    fps: float

    def __post_init__(self) -> None:
        check_frames(self.original, f"original of clip {self.title!r}")
        check_frames(self.reconstruction, f"reconstruction of clip {self.title!r}")
        if self.original.shape != self.reconstruction.shape:
            raise ShapeError(
                f"clip {self.title!r}: original {list(self.original.shape)} and reconstruction "
                f"{list(self.reconstruction.shape)} must have the same shape"
            )
        if min(self.bits, self.num_tokens) <= 0 or not 0 < self.fps < float("inf"):
            raise ShapeError(
                f"clip {self.title!r}: bits, num_tokens and fps must be above 0, "
                f"found {self.bits}, {self.num_tokens}, {self.fps}"
            )

    def __repr__(self) -> str:
        return (
            f"ClipPreview(title={self.title!r}, start_s={self.start_s}, "
            f"frames={list(self.original.shape)}, psnr_db={self.psnr_db:.2f})"
        )


@dataclass(frozen=True, slots=True, eq=False)
class CodebookUsage:
    """How a run used one codebook.

    Attributes:
        name: Such as "spatial".
        words: The word of each code.
        counts: Integer array [num_codes], tokens that chose each code.
        usage: Share of the codes chosen at least once, in [0, 1].
        perplexity: Number of codes that, used evenly, would carry as much.
    """

    name: str
    words: tuple[str, ...]
    counts: Int[np.ndarray, " num_codes"]
    usage: float
    perplexity: float

    def __post_init__(self) -> None:
        where = f"codebook {self.name!r}"
        if self.counts.ndim != 1 or not np.issubdtype(self.counts.dtype, np.integer):
            raise ShapeError(
                f"{where}: counts must be integers [num_codes], "
                f"found {self.counts.dtype} {list(self.counts.shape)}"
            )
        if not len(self.words) == len(self.counts) >= 1:
            raise ShapeError(
                f"{where}: needs one word per code, "
                f"found {len(self.words)} words and {len(self.counts)} counts"
            )
        if self.counts.min() < 0:
            raise ShapeError(f"{where}: counts must be at least 0, found {self.counts.min()}")
        counted_usage = float(np.mean(self.counts > 0))
        if not abs(self.usage - counted_usage) < 1e-3:
            raise ShapeError(
                f"{where}: usage is a share in [0, 1] and must agree with the counts "
                f"({counted_usage:.4f}), found {self.usage}"
            )

    def __repr__(self) -> str:
        return (
            f"CodebookUsage(name={self.name!r}, num_codes={len(self.words)}, "
            f"usage={self.usage:.4f}, perplexity={self.perplexity:.1f})"
        )


class QuarantineRow(NamedTuple):
    """An input that gave no clip, and why."""

    uri: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report page shows.

    Attributes:
        title: Heading of the page.
        summary: Labels and values of the tiles, in order.
        clips: Clips to play, in order.
        usages: One entry per codebook.
        quarantine: Inputs that gave no clip.
        lineage: Which tokenizer and settings the tokens came from.
        config_yaml: The resolved configuration.
    """

    title: str
    summary: tuple[tuple[str, str], ...]
    clips: tuple[ClipPreview, ...] = ()
    usages: tuple[CodebookUsage, ...] = ()
    quarantine: tuple[QuarantineRow, ...] = ()
    lineage: Mapping[str, object] = field(default_factory=dict)
    config_yaml: str = ""
