"""From what a report page shows to what its templates place: encoded players, chips, bars."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.preview.embedding_map import EmbeddingMap, embedding_map
from pipeline.preview.report_data import ClipPreview, CodebookUsage, WordCount
from pipeline.preview.usage_curve import UsageCurve, usage_curve
from pipeline.preview.usage_histogram import usage_histogram
from pipeline.preview.video_files import Frames, encode_mp4
from pipeline.preview.word_maps import WordMap, lit_strip

DIFFERENCE_GAIN = 4
MIN_ENCODED_SIDE_PX = 256
NUM_TOP_WORDS = 10
NUM_CHIPS = 24
COLOURED_PARTS_OF_SPEECH = frozenset({"noun", "adjective", "verb", "adverb"})


@dataclass(frozen=True, slots=True)
class Player:
    """One embedded video: what the template needs to place it."""

    role: str
    caption: str
    video: str
    poster: str


@dataclass(frozen=True, slots=True)
class Chip:
    """A word, its colour class and its size class: 1 (rare) to 5 (the most frequent)."""

    word: str
    part_of_speech: str
    colour: str
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Strip:
    """Frames lit where a word's tokens look, as base64 of a JPEG."""

    chip: Chip
    image: str


@dataclass(frozen=True, slots=True)
class WordGroup:
    """The words of one kind of tokens: the most used ones, and strips of the very most used."""

    heading: str
    chips: tuple[Chip, ...]
    num_words: int
    strips: tuple[Strip, ...]


@dataclass(frozen=True, slots=True)
class ClipView:
    """A clip with everything that is drawn of it; `compression` is None without bits."""

    clip: ClipPreview
    players: tuple[Player, ...]
    word_groups: tuple[WordGroup, ...]
    num_frames: int
    height_px: int
    width_px: int
    compression: float | None


@dataclass(frozen=True, slots=True)
class Bar:
    """One of several bars: what it counts, its share of all, its length in percent."""

    word: str
    count: int
    share: float
    percent: float


@dataclass(frozen=True, slots=True)
class MapDot:
    """A used code on the map, with what it says when pointed at."""

    x: float
    y: float
    radius: float
    colour: str
    text: str


@dataclass(frozen=True, slots=True)
class UsageView:
    """A codebook with everything that is drawn of it; no `map` without its vectors."""

    usage: CodebookUsage
    curve: UsageCurve
    bars: tuple[Bar, ...]
    histogram: tuple[Bar, ...]
    map: EmbeddingMap | None
    dots: tuple[MapDot, ...]
    num_codes: int
    num_used: int
    num_tokens: int
    dead_share: float


def clip_view(clip: ClipPreview) -> ClipView:
    """Encodes the clip's players and strips.

    Raises:
        PipelineError: This build of FFmpeg cannot write the videos.
    """
    num_frames, height, width, _ = clip.original.shape
    difference = np.abs(clip.original.astype(np.int16) - clip.reconstruction)
    difference = np.minimum(DIFFERENCE_GAIN * difference, 255).astype(np.uint8)
    shown = [
        ("original", "Original", clip.original),
        ("reconstruction", "Reconstruction", clip.reconstruction),
        ("difference", f"Difference ×{DIFFERENCE_GAIN}", difference),
    ]
    shown += [
        ("other", f"{other.label}, {other.psnr_db:.1f} dB", other.frames) for other in clip.others
    ]
    return ClipView(
        clip=clip,
        players=tuple(_player(role, caption, frames, clip.fps) for role, caption, frames in shown),
        word_groups=(
            _group("What is seen", clip.spatial_words, clip.spatial_maps, clip.original),
            _group("What moves", clip.temporal_words, clip.temporal_maps, clip.original),
        ),
        num_frames=num_frames,
        height_px=height,
        width_px=width,
        compression=None if clip.bits is None else 8 * clip.original.size / clip.bits,
    )


def _player(role: str, caption: str, frames: Frames, fps: float) -> Player:
    # Enlarged whole pixels keep their own colour through the codec's halved chroma.
    factor = max(1, -(-MIN_ENCODED_SIDE_PX // min(frames.shape[1:3])))
    enlarged = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    poster = io.BytesIO()
    Image.fromarray(frames[0]).save(poster, format="JPEG", quality=85)
    return Player(
        role=role,
        caption=caption,
        video=base64.b64encode(encode_mp4(enlarged, fps)).decode("ascii"),
        poster=base64.b64encode(poster.getvalue()).decode("ascii"),
    )


def _group(
    heading: str, words: tuple[WordCount, ...], maps: tuple[WordMap, ...], original: Frames
) -> WordGroup:
    return WordGroup(
        heading=heading,
        chips=_chips(words),
        num_words=len(words),
        strips=tuple(
            Strip(
                _chip(found.word, most=words[0].count),
                base64.b64encode(lit_strip(original, found)).decode("ascii"),
            )
            for found in maps
        ),
    )


def _chips(words: tuple[WordCount, ...]) -> tuple[Chip, ...]:
    shown = sorted(words, key=lambda word: -word.count)[:NUM_CHIPS]
    return tuple(_chip(word, most=shown[0].count) for word in shown)


def _chip(word: WordCount, *, most: int) -> Chip:
    return Chip(
        word=word.word,
        part_of_speech=word.part_of_speech,
        colour=_colour(word.part_of_speech),
        count=word.count,
        size=1 + round(4 * math.sqrt(word.count / most)) if word.count > 1 else 1,
    )


def _colour(part_of_speech: str) -> str:
    return part_of_speech if part_of_speech in COLOURED_PARTS_OF_SPEECH else "other"


def usage_view(usage: CodebookUsage) -> UsageView:
    """Draws how a codebook was used."""
    num_tokens = int(usage.counts.sum())
    num_used = int(np.count_nonzero(usage.counts))
    num_codes = len(usage.counts)
    found = None
    if usage.codes is not None:
        found = embedding_map(usage.codes, usage.counts, usage.words)
    return UsageView(
        usage=usage,
        curve=usage_curve(usage.counts),
        bars=_most_used(usage, num_tokens),
        histogram=_histogram(usage),
        map=found,
        dots=() if found is None else _dots(usage, found),
        num_codes=num_codes,
        num_used=num_used,
        num_tokens=num_tokens,
        dead_share=(num_codes - num_used) / num_codes,
    )


def _most_used(usage: CodebookUsage, num_tokens: int) -> tuple[Bar, ...]:
    most_used = np.argsort(-usage.counts.astype(np.int64), kind="stable")[:NUM_TOP_WORDS]
    top = [code for code in most_used.tolist() if usage.counts[code] > 0]
    return tuple(
        Bar(
            word=usage.words[code],
            count=int(usage.counts[code]),
            share=int(usage.counts[code]) / num_tokens,
            percent=100 * int(usage.counts[code]) / int(usage.counts[top[0]]),
        )
        for code in top
    )


def _histogram(usage: CodebookUsage) -> tuple[Bar, ...]:
    bins = usage_histogram(usage.counts)
    most = max(one.num_codes for one in bins)
    return tuple(
        Bar(one.label, one.num_codes, one.num_codes / len(usage.counts), 100 * one.num_codes / most)
        for one in bins
    )


def _dots(usage: CodebookUsage, found: EmbeddingMap) -> tuple[MapDot, ...]:
    kinds = usage.parts_of_speech or ("",) * len(usage.words)
    return tuple(
        MapDot(
            dot.x,
            dot.y,
            dot.radius,
            _colour(kinds[dot.code]),
            f"{usage.words[dot.code]}: {int(usage.counts[dot.code]):,}",
        )
        for dot in found.dots
    )
