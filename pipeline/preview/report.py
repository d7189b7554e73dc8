"""Renders a run as one self-contained HTML page: it opens from disk and asks no network."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from dataclasses import dataclass

import jinja2
import numpy as np
from PIL import Image

from pipeline.preview.report_data import (
    ClipPreview,
    CodebookUsage,
    QuarantineRow,
    ReportData,
    WordCount,
)
from pipeline.preview.usage_curve import UsageCurve, usage_curve
from pipeline.preview.video_files import Frames, encode_mp4

__all__ = [
    "ClipPreview",
    "CodebookUsage",
    "QuarantineRow",
    "ReportData",
    "WordCount",
    "render_report",
]

DIFFERENCE_GAIN = 4
MIN_ENCODED_SIDE_PX = 256
NUM_TOP_WORDS = 10
NUM_CHIPS = 24
COLOURED_PARTS_OF_SPEECH = frozenset({"noun", "adjective", "verb", "adverb"})


def render_report(data: ReportData) -> str:
    """One HTML page, complete in itself.

    Videos are embedded; styles and the script are inline, and the page's own security policy
    lets nothing else load or run. Every shown text is escaped.

    Raises:
        PipelineError: This build of FFmpeg cannot write the videos.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["content_hash"] = _content_hash
    environment.filters["decimal"] = _decimal
    page = environment.get_template("report.html").render(
        data=data,
        clips=[_clip_view(clip) for clip in data.clips],
        usages=[_usage_view(usage) for usage in data.usages],
    )
    # File names that are no UTF-8 arrive with lone surrogates, which no file can hold.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class _Player:
    """One embedded video: what the template needs to place it."""

    role: str
    caption: str
    video: str
    poster: str


@dataclass(frozen=True, slots=True)
class _Chip:
    """A word, its colour class and its size class: 1 (rare) to 5 (the most frequent)."""

    word: str
    part_of_speech: str
    colour: str
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class _ClipView:
    clip: ClipPreview
    players: tuple[_Player, ...]
    word_groups: tuple[tuple[str, tuple[_Chip, ...], int], ...]
    num_frames: int
    height_px: int
    width_px: int
    compression: float


@dataclass(frozen=True, slots=True)
class _Bar:
    word: str
    count: int
    share: float
    percent: float


@dataclass(frozen=True, slots=True)
class _UsageView:
    usage: CodebookUsage
    curve: UsageCurve
    bars: tuple[_Bar, ...]
    num_codes: int
    num_used: int
    num_tokens: int
    dead_share: float


def _clip_view(clip: ClipPreview) -> _ClipView:
    num_frames, height, width, _ = clip.original.shape
    difference = np.abs(clip.original.astype(np.int16) - clip.reconstruction)
    difference = np.minimum(DIFFERENCE_GAIN * difference, 255).astype(np.uint8)
    return _ClipView(
        clip=clip,
        players=(
            _player("original", "Original", clip.original, clip.fps),
            _player("reconstruction", "Reconstruction", clip.reconstruction, clip.fps),
            _player("difference", f"Difference ×{DIFFERENCE_GAIN}", difference, clip.fps),
        ),
        word_groups=(
            ("What is seen", _chips(clip.spatial_words), len(clip.spatial_words)),
            ("What moves", _chips(clip.temporal_words), len(clip.temporal_words)),
        ),
        num_frames=num_frames,
        height_px=height,
        width_px=width,
        compression=8 * clip.original.size / clip.bits,
    )


def _player(role: str, caption: str, frames: Frames, fps: float) -> _Player:
    # Enlarged whole pixels keep their own colour through the codec's halved chroma.
    factor = max(1, -(-MIN_ENCODED_SIDE_PX // min(frames.shape[1:3])))
    enlarged = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    poster = io.BytesIO()
    Image.fromarray(frames[0]).save(poster, format="JPEG", quality=85)
    return _Player(
        role=role,
        caption=caption,
        video=base64.b64encode(encode_mp4(enlarged, fps)).decode("ascii"),
        poster=base64.b64encode(poster.getvalue()).decode("ascii"),
    )


def _chips(words: tuple[WordCount, ...]) -> tuple[_Chip, ...]:
    shown = sorted(words, key=lambda word: -word.count)[:NUM_CHIPS]
    return tuple(
        _Chip(
            word=word.word,
            part_of_speech=word.part_of_speech,
            colour=word.part_of_speech
            if word.part_of_speech in COLOURED_PARTS_OF_SPEECH
            else "other",
            count=word.count,
            size=1 + round(4 * math.sqrt(word.count / shown[0].count)) if word.count > 1 else 1,
        )
        for word in shown
    )


def _usage_view(usage: CodebookUsage) -> _UsageView:
    num_tokens = int(usage.counts.sum())
    most_used = np.argsort(-usage.counts.astype(np.int64), kind="stable")[:NUM_TOP_WORDS]
    top = [code for code in most_used.tolist() if usage.counts[code] > 0]
    num_used = int(np.count_nonzero(usage.counts))
    num_codes = len(usage.counts)
    return _UsageView(
        usage=usage,
        curve=usage_curve(usage.counts),
        bars=tuple(
            _Bar(
                word=usage.words[code],
                count=int(usage.counts[code]),
                share=int(usage.counts[code]) / num_tokens,
                percent=100 * int(usage.counts[code]) / int(usage.counts[top[0]]),
            )
            for code in top
        ),
        num_codes=num_codes,
        num_used=num_used,
        num_tokens=num_tokens,
        dead_share=(num_codes - num_used) / num_codes,
    )


def _content_hash(text: str) -> str:
    """How a content security policy names the one script that may run."""
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _decimal(value: float, digits: int = 0) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.{digits}f}" if math.isfinite(value) else "∞"
