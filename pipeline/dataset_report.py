"""What is in a token dataset, as numbers for the terminal and as one HTML page.

The page shows originals beside reconstructions, the worst and the best clips among them, the words
of each clip and where their tokens look, and the use of both codebooks; it opens from disk without
a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydantic
from PIL import Image

from pipeline.comparison import (
    ComparedClip,
    by_video,
    compare_clips,
    mean_psnr_db,
    spread,
    video_name,
)
from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError
from pipeline.preview.codebook_use import codebook_use
from pipeline.preview.contact_sheet import ContactSheetRow, contact_sheet
from pipeline.preview.report import (
    ClipPreview,
    CodebookUsage,
    QuarantineRow,
    ReportData,
    render_report,
)
from pipeline.preview.terminal_summary import format_summary
from pipeline.preview.word_maps import word_maps
from pipeline.preview.worst_and_best import choose_clips
from pipeline.reconstruction import load_tokenizer_of, token_counts
from pipeline.storage import StorageConfig
from pipeline.whole_files import replace_file
from sweettok import SweetTok
from sweettok.strict_config import StrictConfig


class ReportConfig(StrictConfig):
    """What the report shows.

    Attributes:
        output: HTML file to write.
        shown_clips: Clips with players on the page, spread over the videos.
        worst_clips, best_clips: Further clips, by PSNR among the compared ones.
        mapped_words: Of so many spatial and temporal words of each clip it is shown where their
            tokens look.
        compared_clips: Clips whose PSNR is computed (their videos are decoded again).
        listed_videos: Videos that get a line of their own in the summary.
    """

    output: str
    shown_clips: int = pydantic.Field(default=8, ge=1)
    worst_clips: int = pydantic.Field(default=2, ge=0)
    best_clips: int = pydantic.Field(default=2, ge=0)
    mapped_words: int = pydantic.Field(default=4, ge=0)
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
        codebook_use("spatial (nouns, adjectives)", counts[0], model.spatial_quantizer.codebook),
        codebook_use("temporal (verbs, adverbs)", counts[1], model.temporal_quantizer.codebook),
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
        clips=tuple(_previews(model, compared, config)),
        usages=usages,
        quarantine=tuple(
            QuarantineRow(row["video_uri"], row["reason"], row["message"])
            for row in dataset.quarantine().to_pylist()
        ),
        lineage=dict(dataset.lineage.identity),
        config_yaml=dataset.config_yaml,
    )
    replace_file(Path(config.output), render_report(page).encode())
    return DatasetReport(rows, compared)


def comparison_sheet(compared: Sequence[ComparedClip]) -> Image.Image:
    """One clip of each video: frames of the original above those of its reconstruction."""
    rows = []
    for uri, items in by_video(compared):
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
    for uri, items in by_video(compared)[:listed_videos]:
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


def _previews(
    model: SweetTok, compared: Sequence[ComparedClip], config: ReportConfig
) -> Iterator[ClipPreview]:
    """The worst, the best, and clips of all videos; none of them twice."""
    chosen = choose_clips(
        [item.psnr_db for item in compared], config.worst_clips, config.best_clips
    )
    for position, note in chosen.items():
        yield _preview(model, compared[position], config.mapped_words, note)
    shown = {id(compared[position]) for position in chosen}
    for item in spread(compared, config.shown_clips):
        if id(item) not in shown:
            yield _preview(model, item, config.mapped_words)


def _preview(model: SweetTok, item: ComparedClip, mapped_words: int, note: str = "") -> ClipPreview:
    (words,) = model.words(item.clip.tokens)
    spatial, temporal = word_maps(model, item.original, item.clip.tokens, mapped_words)
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
        note=note,
        spatial_maps=spatial,
        temporal_maps=temporal,
    )


def _shape(model: SweetTok) -> str:
    geometry = model.config.geometry
    return f"{geometry.num_frames}×{geometry.height_px}×{geometry.width_px} px"
