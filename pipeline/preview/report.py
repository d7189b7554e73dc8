"""Renders a run as one self-contained HTML page: it opens from disk and asks no network."""

from __future__ import annotations

import base64
import hashlib
import math

from pipeline.page_templates import page_environment
from pipeline.preview.rate_plot import rate_plot
from pipeline.preview.report_data import (
    ClipPreview,
    CodebookUsage,
    OtherReconstruction,
    QuarantineRow,
    ReportData,
    Table,
    WordCount,
)
from pipeline.preview.report_views import clip_view, usage_view

__all__ = [
    "ClipPreview",
    "CodebookUsage",
    "OtherReconstruction",
    "QuarantineRow",
    "ReportData",
    "Table",
    "WordCount",
    "render_report",
]


def render_report(data: ReportData) -> str:
    """One HTML page, complete in itself.

    Videos are embedded; styles and the script are inline, and the page's own security policy
    lets nothing else load or run. Every shown text is escaped.

    Raises:
        PipelineError: This build of FFmpeg cannot write the videos.
    """
    environment = page_environment()
    environment.filters["content_hash"] = _content_hash
    environment.filters["decimal"] = _decimal
    page = environment.get_template("report.html").render(
        data=data,
        clips=[clip_view(clip) for clip in data.clips],
        usages=[usage_view(usage) for usage in data.usages],
        has_words=any(clip.spatial_words or clip.temporal_words for clip in data.clips),
        plot=None if data.rates is None else rate_plot(data.rates),
    )
    # File names that are no UTF-8 arrive with lone surrogates, which no file can hold.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def _content_hash(text: str) -> str:
    """How a content security policy names the one script that may run."""
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _decimal(value: float, digits: int = 0) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.{digits}f}" if math.isfinite(value) else "∞"
