"""What a report page shows, as small frozen records that check their own shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pipeline.preview.rate_plot import RateDistortion
from pipeline.preview.video_files import Frames, check_frames
from pipeline.preview.word_maps import WordMap
from sweettok.errors import ShapeError
from sweettok.model import WordCount


class OtherReconstruction(NamedTuple):
    """What something else gives back of a clip."""

    label: str
    frames: Frames
    psnr_db: float


class Table(NamedTuple):
    """Cells of text; the first column names the rows, the others hold numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ClipPreview:
    """One clip before and after the tokenizer.

    Attributes:
        title: Which video it is from; any text, it is escaped.
        start_s, end_s: Where in the video it lies, in seconds; None if that is not known.
        original: uint8 array [time, height, width, 3], RGB, in [0, 255].
        reconstruction: Same shape, decoded from the stored tokens.
        psnr_db: Of the reconstruction, in decibels; infinity if both are equal.
        spatial_words: The clip's spatial tokens as words, most frequent first.
        temporal_words: The clip's temporal tokens as words, most frequent first.
        bits: Size of the clip's tokens in bits; None if nobody knows.
        num_tokens: How many tokens the clip has; None if it was not made of any.
        fps: Frames per second to play it at.
        note: Why it is shown: "worst", "best" or nothing.
        spatial_maps, temporal_maps: Where the tokens of its most used words look.
        others: What other tokenizers or codecs give back of it.
    """

    title: str
    start_s: float | None
    end_s: float | None
    original: Frames
    reconstruction: Frames
    psnr_db: float
    spatial_words: tuple[WordCount, ...]
    temporal_words: tuple[WordCount, ...]
    bits: float | None
    num_tokens: int | None
    fps: float
    note: str = ""
    spatial_maps: tuple[WordMap, ...] = ()
    temporal_maps: tuple[WordMap, ...] = ()
    others: tuple[OtherReconstruction, ...] = ()

    def __post_init__(self) -> None:
        check_frames(self.original, f"original of clip {self.title!r}")
        found = [("reconstruction", self.reconstruction)]
        for name, frames in [*found, *((other.label, other.frames) for other in self.others)]:
            check_frames(frames, f"{name} of clip {self.title!r}")
            if self.original.shape != frames.shape:
                raise ShapeError(
                    f"clip {self.title!r}: original {list(self.original.shape)} and {name} "
                    f"{list(frames.shape)} must have the same shape"
                )
        sizes = [size for size in (self.bits, self.num_tokens) if size is not None]
        if not all(size > 0 for size in sizes) or not 0 < self.fps < float("inf"):
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
        parts_of_speech: What kind of word each one is; empty if the codes are no words.
        codes: The vector of each code, [num_codes, dimensions]; None draws no map of them.
    """

    name: str
    words: tuple[str, ...]
    counts: Int[np.ndarray, " num_codes"]
    usage: float
    perplexity: float
    parts_of_speech: tuple[str, ...] = ()
    codes: Float[np.ndarray, "num_codes dimensions"] | None = None

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
        if self.parts_of_speech and len(self.parts_of_speech) != len(self.words):
            raise ShapeError(
                f"{where}: needs one part of speech per word, found {len(self.parts_of_speech)} "
                f"for {len(self.words)} words"
            )
        if self.codes is not None and (
            self.codes.ndim != 2 or len(self.codes) != len(self.words) or self.codes.shape[1] < 2
        ):
            raise ShapeError(
                f"{where}: codes must be [{len(self.words)}, 2 or more], "
                f"found {list(self.codes.shape)}"
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


DATASET_LEAD = (
    "Each clip was turned into discrete tokens, stored, read back and decoded again. Every token "
    "is the number of a word: spatial tokens name what is seen, temporal tokens name what moves. "
    "This page shows what went in, what the stored tokens give back, and which words they are."
)


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report page shows.

    Attributes:
        title: Heading of the page.
        summary: Labels and values of the tiles, in order.
        lead: What the page is about, in a few sentences.
        tables: Tables below the summary.
        notes: What to know before their numbers are compared.
        rates: Quality over bits; None draws no plot.
        clips: Clips to play, in order.
        usages: One entry per codebook.
        quarantine: Inputs that gave no clip.
        lineage: Which tokenizer and settings the tokens came from.
        config_yaml: The resolved configuration.
    """

    title: str
    summary: tuple[tuple[str, str], ...]
    lead: str = DATASET_LEAD
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    rates: RateDistortion | None = None
    clips: tuple[ClipPreview, ...] = ()
    usages: tuple[CodebookUsage, ...] = ()
    quarantine: tuple[QuarantineRow, ...] = ()
    lineage: Mapping[str, object] = field(default_factory=dict)
    config_yaml: str = ""
