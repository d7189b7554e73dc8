"""One run as one self-contained HTML page: throughput over time, stages, reasons of failure.

It lies beside the run's config and summary in the dataset. No script, nothing from a network; all
that is shown is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipeline.page_templates import page_environment
from pipeline.run_timeline import Moment
from pipeline.run_totals import RunTotals
from pipeline.svg_charts import Points, bar_chart, chart
from pipeline.tokenize_summary import TokenizeSummary
from sweettok.uri_secrets import redacted

MAX_EXAMPLES = 50
_NUM_POINTS = 120


@dataclass(frozen=True)
class RunPage:
    """What the page shows.

    Attributes:
        summary: The account of all inputs.
        timeline: The run's moments; empty if no video was worked on.
        quarantined: Rows of the quarantine that this run wrote, some of them if there are many:
            video_uri, reason, message.
        config_yaml: The run's resolved config.
    """

    summary: TokenizeSummary
    timeline: Sequence[Moment]
    quarantined: Sequence[Mapping[str, Any]]
    config_yaml: str

    def html(self) -> str:
        """The page."""
        environment = page_environment()
        totals = self.timeline[-1].totals if self.timeline else RunTotals()
        page = environment.get_template("run.html").render(
            title=self.summary.run_id,
            dataset_uri=redacted(self.summary.dataset_uri),
            lines=[redacted(line) for line in self.summary.lines()],
            tiles=_tiles(self.summary, totals),
            charts=self._charts(),
            bar_charts=self._bar_charts(totals),
            examples=[_example(row) for row in self.quarantined[:MAX_EXAMPLES]],
            config_yaml=redacted(self.config_yaml),
        )
        # File names that are no UTF-8 arrive with lone surrogates, which no file can hold.
        return page.encode("utf-8", "backslashreplace").decode("utf-8")

    def _charts(self) -> list[Any]:
        moments = _thinned(self.timeline)
        return [
            chart(
                "throughput",
                "Throughput, clips per second",
                "Tokens that arrived at the committer, from when it was there; what was done before"
                " the encoders were ready arrives at once.",
                {"clips/s": _rates(moments, "num_clips")},
            ),
            chart(
                "stages",
                "Processes at work",
                "Seconds of work per second, of all processes of a stage together; what they did is"
                " counted when it arrives. A stage at its number of processes limits the run.",
                {
                    "decode": _rates(moments, "decode_s"),
                    "encode": _rates(moments, "encode_s"),
                    "commit": _rates(moments, "commit_s"),
                },
            ),
        ]

    def _bar_charts(self, totals: RunTotals) -> list[Any]:
        stages = {
            "decode": totals.decode_s,
            "encode": totals.encode_s,
            "commit": totals.commit_s,
            "whole run": self.summary.duration_s,
        }
        return [
            bar_chart(
                "stage-times",
                "Stage times",
                "Seconds that the processes of each stage worked, beside the time of the whole run"
                " with listing and start-up.",
                stages,
                "s",
                "",
            ),
            bar_chart(
                "reasons",
                "Reasons of failure",
                "Videos that this run quarantined.",
                {name: float(count) for name, count in self.summary.reasons.items()},
                "",
                "No video was quarantined.",
            ),
        ]


def _tiles(summary: TokenizeSummary, totals: RunTotals) -> list[tuple[str, str]]:
    return [
        ("Videos tokenized", f"{summary.num_tokenized:,}"),
        ("Quarantined", f"{summary.num_quarantined:,}"),
        ("Clips", f"{summary.num_clips:,}"),
        ("Frames", f"{totals.num_frames:,}"),
        ("Tokens", f"{totals.num_tokens:,}"),
        ("MB in", f"{totals.bytes_in / 1e6:,.1f}"),
        ("MB out", f"{totals.bytes_out / 1e6:,.2f}"),
        ("Steady clips/s", f"{summary.steady_clips_per_s:,.1f}"),
        ("Commits", f"{totals.num_commits:,}"),
        ("Retries", f"{totals.num_retries:,}"),
    ]


def _example(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "video": redacted(str(row["video_uri"])),
        "reason": str(row["reason"]),
        "message": redacted(str(row["message"])),
    }


def _thinned(timeline: Sequence[Moment]) -> list[Moment]:
    """As many moments as a chart has room for, the last one always."""
    if len(timeline) <= _NUM_POINTS:
        return list(timeline)
    step = -(-len(timeline) // _NUM_POINTS)
    return [*timeline[::step], *([timeline[-1]] if (len(timeline) - 1) % step else [])]


def _rates(moments: Sequence[Moment], name: str) -> Points:
    """What came per second between two moments, at the middle of both."""
    return [
        (
            (first.at_s + second.at_s) / 2,
            max(0.0, getattr(second.totals, name) - getattr(first.totals, name))
            / (second.at_s - first.at_s),
        )
        for first, second in pairwise(moments)
        if second.at_s > first.at_s
    ]
