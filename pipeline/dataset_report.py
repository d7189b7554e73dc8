"""What is in a token dataset, as numbers for the terminal and as one HTML page.

The page shows originals beside reconstructions, the words of each clip, and the use of both
codebooks; it opens from disk without a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from pathlib import Path

import numpy as np
import pydantic
import torch
from PIL import Image

from pipeline.comparison import ComparedClip, compare_clips, mean_psnr_db, video_name
from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError
from pipeline.preview.contact_sheet import ContactSheetRow, contact_sheet
from pipeline.preview.report import (
    ClipPreview,
    CodebookUsage,
    QuarantineRow,
    ReportData,
    render_report,
)
from pipeline.preview.terminal_summary import format_summary
from pipeline.reconstruction import load_tokenizer_of, token_counts
from pipeline.storage import StorageConfig
from sweettok import SweetTok
from sweettok.metrics import CodebookStatistics
from sweettok.strict_config import StrictConfig


class ReportConfig(StrictConfig):
    """What the report shows.

    Attributes:
        output: HTML file to write.
        shown_clips: Clips with players on the page, spread over the videos.
        compared_clips: Clips whose PSNR is computed (their videos are decoded again).
        listed_videos: Videos that get a line of their own in the summary.
    """

    output: str
    shown_clips: int = pydantic.Field(default=8, ge=1)
    compared_clips: int = pydantic.Field(default=256, ge=1)
    listed_videos: int = pydantic.Field(default=8, ge=0)


@dataclass(frozen=True)
class DatasetReport:
    """The numbers of a dataset.

    Attributes:
        rows: Label and value of every line of the summary.
        compared: The clips whose PSNR was computed.
    """

    rows: tuple[tuple[str, str], ...]
    compared: list[ComparedClip] = field(repr=False)

    def text(self, title: str) -> str:
        """The summary for a terminal."""
        return format_summary(self.rows, title)


def report_dataset(
    dataset: TokenDataset,
    config: ReportConfig,
    *,
    source_storage: StorageConfig,
    title: str,
    extra_rows: Sequence[tuple[str, str]] = (),
    notes: dict[str, str] | None = None,
) -> DatasetReport:
    """Writes the page and returns the numbers.

    Args:
        dataset: The dataset at the version to report on.
        config: What to show.
        source_storage: How to reach the original videos.
        title: Heading of the page.
        extra_rows: Lines to add at the end of the summary.
        notes: What to add behind a video's name in the summary, by its URI ("held out").

    Raises:
        DatasetError: The dataset is empty or was altered.
    """
    if not dataset.num_clips():
        raise DatasetError(
            f"{dataset.uri}: holds no clip, so there is nothing to show; "
            "its quarantine says why each input gave none"
        )
    model = load_tokenizer_of(dataset)
    compared = compare_clips(
        dataset, model, max_clips=config.compared_clips, storage=source_storage
    )
    counts = token_counts(dataset, model.config.num_spatial_words, model.config.num_temporal_words)
    usages = (
        _usage("spatial (nouns, adjectives)", model.lexicon.spatial.words, counts[0]),
        _usage("temporal (verbs, adverbs)", model.lexicon.temporal.words, counts[1]),
    )
    rows = (
        *_size_rows(dataset, model),
        *_quality_rows(compared, config.listed_videos, notes or {}),
        *_usage_rows(usages),
        *extra_rows,
    )
    page = ReportData(
        title=title,
        summary=rows,
        clips=tuple(_preview(model, item) for item in _spread(compared, config.shown_clips)),
        usages=usages,
        quarantine=tuple(
            QuarantineRow(row["video_uri"], row["reason"], row["message"])
            for row in dataset.quarantine().to_pylist()
        ),
        lineage=dict(dataset.lineage.identity),
        config_yaml=dataset.config_yaml,
    )
    output = Path(config.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(render_report(page), encoding="utf-8")
    return DatasetReport(rows, compared)


def comparison_sheet(compared: Sequence[ComparedClip]) -> Image.Image:
    """One clip of each video: frames of the original above those of its reconstruction."""
    rows = []
    for uri, items in _by_video(compared):
        name, item = video_name(uri), items[len(items) // 2]
        rows.append(ContactSheetRow(f"{name} · original", item.original))
        rows.append(ContactSheetRow(f"{name} · {item.psnr_db:.1f} dB", item.reconstruction))
    return contact_sheet(rows, num_columns=6, scale=2)


def _size_rows(dataset: TokenDataset, model: SweetTok) -> list[tuple[str, str]]:
    num_clips = dataset.num_clips()
    num_bytes = sum(dataset.clips.file_sizes().values())
    sizes = model.config
    return [
        ("videos", f"{dataset.clips.keys().num_rows:,}"),
        ("quarantined", f"{dataset.quarantine().num_rows:,}"),
        ("clips", f"{num_clips:,} · {_shape(model)} each"),
        (
            "tokens",
            f"{num_clips * sizes.num_tokens:,} · {sizes.num_spatial_tokens} spatial + "
            f"{sizes.num_temporal_tokens} temporal per clip",
        ),
        ("bits per clip", f"{sizes.bits_per_clip:,.0f}"),
        ("bytes per clip", f"{num_bytes / num_clips:,.0f} · on disk, all columns"),
    ]


def _quality_rows(
    compared: list[ComparedClip], listed_videos: int, notes: dict[str, str]
) -> list[tuple[str, str]]:
    if not compared:
        return [("PSNR", "not known: no original video is left to compare with")]
    rows = [("PSNR", f"{mean_psnr_db(compared):.2f} dB · mean of {len(compared)} clips")]
    for uri, items in _by_video(compared)[:listed_videos]:
        note = f" · {notes[uri]}" if uri in notes else ""
        rows.append((f"  {video_name(uri)}", f"{mean_psnr_db(items):.2f} dB{note}"))
    return rows


def _usage_rows(usages: Sequence[CodebookUsage]) -> list[tuple[str, str]]:
    return [
        (
            f"{usage.name.split()[0]} words used",
            f"{usage.usage:.0%} · of {len(usage.words):,}, perplexity {usage.perplexity:.0f}",
        )
        for usage in usages
    ]


def _usage(name: str, words: tuple[str, ...], counts: np.ndarray) -> CodebookUsage:
    statistics = CodebookStatistics.from_counts(torch.from_numpy(counts))
    return CodebookUsage(name, words, counts, statistics.usage, statistics.perplexity)


def _preview(model: SweetTok, item: ComparedClip) -> ClipPreview:
    (words,) = model.words(item.clip.tokens)
    return ClipPreview(
        title=video_name(item.clip.video_uri),
        start_s=item.clip.start_s,
        end_s=item.clip.end_s,
        original=item.original,
        reconstruction=item.reconstruction,
        psnr_db=item.psnr_db,
        spatial_words=words.spatial,
        temporal_words=words.temporal,
        bits=model.config.bits_per_clip,
        num_tokens=model.config.num_tokens,
        fps=item.clip.fps,
    )


def _by_video(compared: Sequence[ComparedClip]) -> list[tuple[str, list[ComparedClip]]]:
    ordered = sorted(compared, key=lambda item: (item.clip.video_uri, item.clip.clip_index))
    return [(uri, list(items)) for uri, items in groupby(ordered, lambda item: item.clip.video_uri)]


def _spread(compared: list[ComparedClip], num_clips: int) -> list[ComparedClip]:
    """Clips of as many videos as possible, from evenly spaced places of each."""
    videos = _by_video(compared)
    each = -(-num_clips // max(1, len(videos)))
    chosen = []
    for _, items in videos:
        places = np.linspace(0, len(items) - 1, min(each, len(items)) + 1)[:-1]
        chosen.append([items[int(place)] for place in places])
    in_turn = [item for items in zip_longest(*chosen) for item in items if item is not None]
    kept = {id(item) for item in in_turn[:num_clips]}
    return [item for items in chosen for item in items if id(item) in kept]


def _shape(model: SweetTok) -> str:
    geometry = model.config.geometry
    return f"{geometry.num_frames}×{geometry.height_px}×{geometry.width_px} px"
