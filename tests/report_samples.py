"""A report page with everything on it, small: what tests of pages begin with."""

from __future__ import annotations

import numpy as np

from pipeline.preview.rate_plot import RateDistortion, RatePoint, RateSeries
from pipeline.preview.report import (
    ClipPreview,
    CodebookUsage,
    OtherReconstruction,
    QuarantineRow,
    ReportData,
    Table,
    WordCount,
)
from pipeline.preview.word_maps import WordMap

NUM_FRAMES = 9
BRIGHTER = 10  # how much the reconstruction is brighter than the original


def moving_frames() -> np.ndarray:
    """Grey frames 20 brighter each than the one before."""
    levels = np.arange(20, 20 + 20 * NUM_FRAMES, 20, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (NUM_FRAMES, 24, 32, 3)).copy()


def whole_clip(text: str, *, note: str = "worst") -> ClipPreview:
    """A clip with words, their maps and another reconstruction; all texts are `text`."""
    original = moving_frames()
    spatial, temporal = WordCount(text, "noun", 9), WordCount(text, "verb", 4)
    weights = np.zeros((3, 3, 4), np.float32)
    weights[0, 0, 0] = weights[2, 2, 3] = 1
    return ClipPreview(
        title=text,
        start_s=None,
        end_s=None,
        original=original,
        reconstruction=original + np.uint8(BRIGHTER),
        psnr_db=28.13,
        spatial_words=(spatial,),
        temporal_words=(temporal, WordCount("hm", text, 1)),
        bits=1152.0,
        num_tokens=13,
        fps=8.0,
        note=note,
        spatial_maps=(WordMap(spatial, weights, tube_frames=4),),
        temporal_maps=(WordMap(temporal, weights, tube_frames=4),),
        others=(OtherReconstruction(text, original, 30.0),),
    )


def whole_report(text: str, *, num_clips: int = 2) -> ReportData:
    """All that a page can show; every text in it is `text`."""
    counts = np.array([40, 0, 6, 0, 2, 0, 0, 0], dtype=np.int64)
    point = RatePoint(1152, 28.13, 27.0, 29.0)
    curve = (RatePoint(600, 24.0, 23.0, 25.0), RatePoint(2400, 31.0, 30.0, 32.0))
    return ReportData(
        title=text,
        lead=text,
        summary=((text, text),),
        tables=(Table(text, (text, "PSNR dB"), ((text, "28.13"), ("other", text))),),
        notes=(text,),
        rates=RateDistortion(
            (RateSeries(text, (point,)), RateSeries("H.264", curve)), ((text, 22.0),)
        ),
        clips=tuple(whole_clip(text) for _ in range(num_clips)),
        usages=(
            CodebookUsage(
                text,
                (text, *(f"word{code}" for code in range(1, 8))),
                counts,
                usage=0.375,
                perplexity=1.7,
                parts_of_speech=("noun",) * 8,
                codes=np.random.default_rng(0).normal(size=(8, 5)),
            ),
        ),
        quarantine=(QuarantineRow(f"file:///{text}", text, text),),
        lineage={text: text},
        config_yaml=text,
    )
