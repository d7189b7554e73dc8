"""An evaluation as one HTML page: tables, quality over bits, worst and best clips, words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.parts import Part
from pipeline.evaluation.shown_clips import ShownClip, codes_used
from pipeline.evaluation.subjects import STANDARD_NAMES, Subject
from pipeline.evaluation.tables import notes_of, sample_in_words, tables_of
from pipeline.evaluation.tokenizers import WordTokenizer
from pipeline.evaluation.video_codec import RECIPES
from pipeline.preview.codebook_use import codebook_use
from pipeline.preview.rate_plot import RateDistortion, RatePoint, RateSeries
from pipeline.preview.report import (
    ClipPreview,
    CodebookUsage,
    OtherReconstruction,
    QuarantineRow,
    ReportData,
    render_report,
)
from pipeline.preview.word_maps import word_maps
from sweettok import SweetTok, Tokens
from sweettok.codebook import Codebook

LEAD = (
    "Clips as the protocol cuts them, what tokenizers and codecs give back of them, and how many "
    "bits each one takes. The worst and the best clips are those of {name!r} by PSNR."
)
_PLAYED_FPS = 12.0  # of clips whose own frame rate nobody asked for
_CODEC_NAMES = {recipe.encoder: STANDARD_NAMES[name] for name, recipe in RECIPES.items()}


@dataclass(frozen=True, eq=False)
class Main:
    """The tokenizer that a page is about, and its measures of all clips."""

    subject: Subject
    part: Part


def evaluation_page(
    config: EvaluateConfig,
    result: Mapping[str, Any],
    main: Main | None,
    clips: Sequence[ShownClip],
) -> str:
    """The whole page.

    Args:
        config: The resolved settings.
        result: All numbers, as `result.json` holds them.
        main: Whose words and clips are shown; None if only generated clips were measured.
        clips: The clips to play.

    Raises:
        PipelineError: This build of FFmpeg cannot write the videos.
    """
    name = "" if main is None else main.subject.label
    data = ReportData(
        title=f"Evaluation: {config.protocol.name}",
        lead=LEAD.format(name=name) if clips else LEAD.partition(" The worst")[0],
        summary=_summary(result, name),
        tables=tables_of(result),
        notes=(
            f"Protocol: {result['protocol_in_words']}.",
            *(f"* {warning}." for warning in result["warnings"]),
            *notes_of(result),
        ),
        rates=rate_distortion(result["tokenizers"]),
        clips=() if main is None else tuple(_preview(config, main.subject, one) for one in clips),
        usages=() if main is None else tuple(_usages(main)),
        quarantine=tuple(
            QuarantineRow(video["video"], video["reason"], video["message"])
            for video in result["sample"]["left_out"]
        ),
        lineage=_lineage(result),
        config_yaml=config.to_yaml(),
    )
    return render_report(data)


def rate_distortion(rows: Sequence[Mapping[str, Any]]) -> RateDistortion | None:
    """PSNR over bits of all rows; those of one video codec are one series. None without bits."""
    series: dict[str, list[RatePoint]] = {}
    yardsticks = []
    for row in rows:
        quality = row["psnr_db"]
        if row["bits_per_clip"] is None:
            yardsticks.append((row["name"], quality["mean"]))
            continue
        low, high = (quality[end] for end in ("low", "high"))
        point = RatePoint(
            row["bits_per_clip"],
            quality["mean"],
            quality["mean"] if low is None else low,
            quality["mean"] if high is None else high,
        )
        codec = _CODEC_NAMES.get(row["facts"].get("encoder", ""))
        series.setdefault(codec or row["name"], []).append(point)
    if not series:
        return None
    return RateDistortion(
        tuple(RateSeries(name, tuple(points)) for name, points in series.items()),
        tuple(yardsticks),
    )


def _summary(result: Mapping[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    rows = [("sample", sample_in_words(result).replace(", ", " · ", 1))]
    for row in result["tokenizers"]:
        if row["name"] == name:
            bits, quality = row["bits_per_clip"], row["psnr_db"]
            rows += [
                ("shown", name),
                ("bits per clip", "–" if bits is None else f"{bits:,.0f}"),
                ("PSNR", f"{quality['mean']:.2f} dB"),
                ("SSIM", f"{row['ssim']['mean']:.3f}"),
            ]
            rows += [
                (f"{book} codes used", f"{use['usage']:.0%} · of {use['num_codes']:,}")
                for book, use in row.get("codebooks", {}).items()
            ]
    return tuple(rows)


def _lineage(result: Mapping[str, Any]) -> dict[str, object]:
    rows = {
        f"{row['name']}, {key}": value
        for row in result["tokenizers"]
        for key, value in row["facts"].items()
    }
    sample = result["sample"]["source_identity"]
    return {"videos": sample, "torch": result["torch"], **rows}


def _preview(config: EvaluateConfig, subject: Subject, shown: ShownClip) -> ClipPreview:
    measures = shown.found[subject.label]
    bits = float(measures["bits"][0])
    num_ids = [ids.shape[1] for name, ids in measures.items() if name.startswith("ids/")]
    model = _word_model(subject)
    words: dict[str, Any] = {"spatial_words": (), "temporal_words": ()}
    if model is not None:
        words = _words(model, shown, measures, config.report.mapped_words)
    return ClipPreview(
        title=f"{shown.video}, clip {shown.number}",
        start_s=None,
        end_s=None,
        original=shown.original,
        reconstruction=shown.remade[subject.label],
        psnr_db=float(measures["psnr_db"][0]),
        bits=bits if bits > 0 else None,
        num_tokens=sum(num_ids) or None,
        fps=config.protocol.clips.target_fps or _PLAYED_FPS,
        note=shown.note,
        others=tuple(
            OtherReconstruction(label, shown.remade[label], float(found["psnr_db"][0]))
            for label, found in shown.found.items()
            if label != subject.label
        ),
        **words,
    )


def _words(
    model: SweetTok, shown: ShownClip, measures: Mapping[str, torch.Tensor], max_words: int
) -> dict[str, Any]:
    device = next(model.parameters()).device
    tokens = Tokens(
        measures["ids/spatial"].long().to(device), measures["ids/temporal"].long().to(device)
    )
    (words,) = model.words(tokens)
    spatial, temporal = word_maps(model, shown.original, tokens, max_words)
    return {
        "spatial_words": words.spatial,
        "temporal_words": words.temporal,
        "spatial_maps": spatial,
        "temporal_maps": temporal,
    }


def _usages(main: Main) -> list[CodebookUsage]:
    model = _word_model(main.subject)
    codebooks: dict[str, Codebook] = {}
    if model is not None:
        codebooks = {
            "spatial": model.spatial_quantizer.codebook,
            "temporal": model.temporal_quantizer.codebook,
        }
    return [
        codebook_use(name, codes_used(main.part, name, num_codes), codebooks.get(name))
        for name, num_codes in main.subject.tokenizer.codebook_sizes.items()
    ]


def _word_model(subject: Subject) -> SweetTok | None:
    """The model, if its tokens are words of two codebooks."""
    tokenizer = subject.tokenizer
    if isinstance(tokenizer, WordTokenizer) and isinstance(tokenizer.model, SweetTok):
        return tokenizer.model
    return None
