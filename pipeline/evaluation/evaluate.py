"""The whole evaluation: real clips, reconstructions, generated clips; numbers, table, page."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.evaluation.clip_table import clip_table
from pipeline.evaluation.config import ORIGINALS, EvaluateConfig, GeneratedConfig
from pipeline.evaluation.generated import ClipSource, generated_clips, video_clips
from pipeline.evaluation.instruments import Instruments
from pipeline.evaluation.measuring import Row, measure_rows, originals_row, subject_row
from pipeline.evaluation.page import Main, evaluation_page
from pipeline.evaluation.parts import Part, PartStore
from pipeline.evaluation.shown_clips import ShownClip, show_clips
from pipeline.evaluation.subjects import Subject, load_subjects
from pipeline.evaluation.summary import (
    generated_summary,
    inception_scores,
    reconstruction_summary,
    warnings_of,
)
from pipeline.evaluation.tables import markdown
from pipeline.preview.contact_sheet import ContactSheetRow, contact_sheet
from pipeline.preview.worst_and_best import choose_clips
from pipeline.records import stable_id
from pipeline.whole_files import replace_file

logger = logging.getLogger(__name__)

RESULT_FILE, TABLE_FILE, CONFIG_FILE = "result.json", "table.md", "config.yaml"
PICTURE_FILE, CLIPS_FILE, PAGE_FILE = "reconstructions.png", "clips.parquet", "report.html"
_HASH_CHARACTERS = 12
_FORMAT_VERSION = 1  # of the result


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gave.

    Attributes:
        result: All numbers, as `result.json` holds them.
        table: The same as Markdown.
        directory: Where everything lies.
    """

    result: dict[str, Any]
    table: str
    directory: Path


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Measures what is not measured yet, and writes result, table, picture and page.

    Raises:
        SourceError, DatasetError: Clips cannot be read, or there are none.
        PipelineError: A tokenizer or a network is not what it should be.
        CheckpointError: Weights are missing or were altered.
    """
    device = _device(config.device)
    instruments = Instruments.load(
        config.perceptual,
        config.feature_networks,
        with_classes=bool(config.generated),
        device=device,
    )
    subjects = load_subjects(config.tokenizers, config.protocol, device)
    measured, clips, source_identity = _measured_real_clips(config, instruments, subjects)
    originals = measured[ORIGINALS]
    logger.info("%d clips of %d rows: summing up", len(originals.videos), len(measured))
    result = _frame_of_result(config, instruments, originals, source_identity)
    result["tokenizers"] = [
        reconstruction_summary(
            subject,
            measured[subject.label],
            originals,
            instruments,
            pixels_per_clip=_pixels_per_clip(config),
            num_resamples=config.num_resamples,
        )
        for subject in subjects
    ]
    result["generated"] = [
        _generated_result(generated, config, instruments, originals)
        for generated in config.generated
    ]
    result["warnings"] = warnings_of([*result["tokenizers"], *result["generated"]])
    for warning in result["warnings"]:
        logger.warning("%s", warning)
    main = _main_subject(config, subjects)
    shown = None if main is None else Main(main, measured[main.label])
    return _written(config, result, measured, evaluation_page(config, result, shown, clips))


def _measured_real_clips(
    config: EvaluateConfig, instruments: Instruments, subjects: Sequence[Subject]
) -> tuple[dict[str, Part], list[ShownClip], str]:
    """Measures of the originals and of all reconstructions, the clips to show, whose they are."""
    with video_clips(config.source, config.protocol, config.decode) as source:
        directory = _parts_directory(source, config, instruments)
        rows = [originals_row(instruments, PartStore(directory, ORIGINALS, instruments.identity))]
        for subject in subjects:
            store = PartStore(directory, subject.label, subject.identity)
            rows.append(subject_row(instruments, subject, store))
        measured = _measured(rows, source, config, config.protocol.max_clips)
        shown = _shown_clips(config, source, measured, instruments, subjects)
        return measured, shown, source.identity


def _shown_clips(
    config: EvaluateConfig,
    source: ClipSource,
    measured: dict[str, Part],
    instruments: Instruments,
    subjects: Sequence[Subject],
) -> list[ShownClip]:
    main = _main_subject(config, subjects)
    if main is None:
        return []
    part = measured[main.label]
    chosen = choose_clips(
        part.measures["psnr_db"].tolist(), config.report.worst_clips, config.report.best_clips
    )
    beside = [subject for subject in subjects if subject.label in config.report.beside]
    return show_clips(source, part.videos, chosen, [main, *beside], instruments)


def _main_subject(config: EvaluateConfig, subjects: Sequence[Subject]) -> Subject | None:
    """Whose clips the page shows."""
    named = [subject for subject in subjects if subject.label == config.report.row]
    with_codes = [subject for subject in subjects if subject.tokenizer.codebook_sizes]
    return next(iter([*named, *with_codes, *subjects]), None)


def _generated_result(
    generated: GeneratedConfig, config: EvaluateConfig, instruments: Instruments, originals: Part
) -> dict[str, Any]:
    device = instruments.device
    with generated_clips(generated, config.protocol, config.decode, device) as source:
        directory = _parts_directory(source, config, instruments)
        store = PartStore(directory, generated.name, instruments.identity)
        row = originals_row(instruments, store, generated.name)
        max_clips = generated.max_clips or config.protocol.max_clips
        part = _measured([row], source, config, max_clips)[generated.name]
    return generated_summary(
        generated.name,
        part,
        originals,
        instruments,
        num_resamples=config.num_resamples,
        num_parts=config.num_inception_parts,
    )


def _measured(
    rows: Sequence[Row], source: ClipSource, config: EvaluateConfig, max_clips: int | None
) -> dict[str, Part]:
    return measure_rows(
        rows,
        source.videos,
        source.read,
        videos_per_part=config.videos_per_part,
        batch_size=config.batch_size,
        max_clips=max_clips,
        shown_clips=config.shown_clips,
    )


def _frame_of_result(
    config: EvaluateConfig, instruments: Instruments, originals: Part, source_identity: str
) -> dict[str, Any]:
    """All of a result that is not of a row."""
    scores = {}
    if instruments.with_classes:
        scores = inception_scores(originals, instruments, config.num_inception_parts)
    return {
        "format_version": _FORMAT_VERSION,
        "protocol": config.protocol.to_mapping(),
        "protocol_in_words": config.protocol.describe(),
        "sample": {
            "num_clips": len(originals.videos),
            "num_videos": len(set(originals.videos)),
            "left_out": originals.left_out,
            "source_identity": source_identity,
        },
        "pixels": "measured after rounding to 8 bits",
        "instruments": instruments.names(),
        "feature_networks": {
            network.metric: {"sha256": network.sha256} for network in instruments.networks
        },
        "perceptual_files": instruments.perceptual_files,
        "torch": torch.__version__,
        "real_inception_score": scores,
    }


def _parts_directory(source: ClipSource, config: EvaluateConfig, instruments: Instruments) -> Path:
    """Where measures of exactly these clips by exactly these instruments are kept."""
    recipe = stable_id(
        "evaluation",
        source.identity,
        instruments.identity,
        config.videos_per_part,
        config.shown_clips,
        instruments.device.type,
    )
    return Path(config.output) / "parts" / recipe[:_HASH_CHARACTERS]


def _written(
    config: EvaluateConfig, result: dict[str, Any], measured: dict[str, Part], page: str
) -> Evaluation:
    output = Path(config.output)
    table = markdown(result)
    shown = {label: part.shown for label, part in measured.items() if part.shown is not None}
    if result["tokenizers"]:
        replace_file(output / CLIPS_FILE, clip_table(measured))
        if shown:
            replace_file(output / PICTURE_FILE, _picture(shown))
    replace_file(output / CONFIG_FILE, config.to_yaml().encode())
    replace_file(output / TABLE_FILE, table.encode())
    replace_file(output / PAGE_FILE, page.encode())
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    replace_file(output / RESULT_FILE, text.encode())
    return Evaluation(result, table, output)


def _picture(shown: dict[str, Tensor]) -> bytes:
    """A PNG of the shown clips, each original above what every row gives back of it."""
    rows = [
        ContactSheetRow(f"clip {number} · {label}", pixels[number].numpy())
        for number in range(len(shown[ORIGINALS]))
        for label, pixels in shown.items()
    ]
    content = io.BytesIO()
    contact_sheet(rows).save(content, format="PNG")
    return content.getvalue()


def _pixels_per_clip(config: EvaluateConfig) -> int:
    protocol = config.protocol
    return protocol.num_frames * protocol.height_px * protocol.width_px


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise PipelineError("device is cuda, but torch finds no GPU here; set device to auto")
    return torch.device(name)
