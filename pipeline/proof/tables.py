"""The comparison as Markdown: for each held-out part its table, differences, frames and notes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.proof.anchors import STILL_ROW
from pipeline.proof.columns import COLUMNS, NOTHING, Column, mean_of, spread
from pipeline.proof.motion_network import NUM_CLASSES
from pipeline.proof.rows import REFERENCE_ROW, RowConfig
from sweettok.bootstrap import MIN_GROUPS, Interval

Result = dict[str, Any]

PART_NAMES = {
    ("motion", "test"): "Motion corpus, held-out clips (other cameras and colours)",
    ("natural", "near"): "Natural video, the last part of the training videos",
    ("natural", "far"): "Natural video, a video of another scene",
}


@dataclass(frozen=True)
class Yardstick:
    """The motion network: its accuracy on originals, in [0, 1], and its number of features."""

    accuracy: float
    num_features: int


@dataclass(frozen=True)
class PartTable:
    """All there is to write of one held-out part.

    Attributes:
        corpus, part: Which one.
        runs: Results by the row's label, in the table's order; one for each seed.
        anchors: Results of the rows without training, by label.
        differences: By label, to the reference row, by measure.
    """

    corpus: str
    part: str
    runs: Mapping[str, Sequence[Result]]
    anchors: Mapping[str, Result]
    differences: Mapping[str, Mapping[str, Interval]]

    @property
    def rows(self) -> dict[str, list[Result]]:
        """The summaries of this part by label, runs first."""
        found = {label: [run["parts"][self.part] for run in of] for label, of in self.runs.items()}
        return found | {label: [of["parts"][self.part]] for label, of in self.anchors.items()}

    @property
    def columns(self) -> list[Column]:
        """The measures that any row has."""
        parts = [part for of_row in self.rows.values() for part in of_row]
        return [
            column for column in COLUMNS if any(column.value(part) is not None for part in parts)
        ]


def part_tables(
    results: Sequence[Result],
    rows: Sequence[RowConfig],
    anchors: Sequence[Result] = (),
    differences: Mapping[tuple[str, str, str], Mapping[str, Interval]] | None = None,
) -> list[PartTable]:
    """The tables of all held-out parts that have results.

    Args:
        results: Finished runs.
        rows: The table's order.
        anchors: Results of the rows without training.
        differences: By corpus, part and name of the row.
    """
    parts = [(result["corpus"], part) for result in results for part in result["parts"]]
    tables = []
    for corpus, part in dict.fromkeys(parts):
        runs = {
            row.label: [
                result
                for result in results
                if (result["corpus"], result["row"]) == (corpus, row.name)
            ]
            for row in rows
        }
        labels = {row.name: row.label for row in rows}
        tables.append(
            PartTable(
                corpus,
                part,
                {label: found for label, found in runs.items() if found},
                {found["row"]: found for found in anchors if found["corpus"] == corpus},
                {
                    labels.get(name, name): found
                    for (of, where, name), found in (differences or {}).items()
                    if (of, where) == (corpus, part)
                },
            )
        )
    return tables


def markdown_tables(tables: Sequence[PartTable], yardstick: Yardstick | None) -> str:
    """All tables, with what is needed to read them below."""
    blocks = [block for table in tables for block in _of_part(table)]
    return "\n".join([*blocks, *_notes(yardstick), ""])


def _of_part(table: PartTable) -> list[str]:
    part = next(iter(table.rows.values()))[0]
    title = PART_NAMES.get((table.corpus, table.part), f"{table.corpus}, {table.part}")
    counts = f"{part['num_clips']} clips of {part['num_videos']} videos"
    blocks = [f"### {title}: {counts}", "", *_main_table(table), "", *_counted(table)]
    blocks += _beating(table)
    blocks += ["PSNR in dB by latent frame (frame 0, then tubes):", "", *_frame_table(table), ""]
    if table.differences:
        blocks += [*_difference_table(table), ""]
    return blocks


def _main_table(table: PartTable) -> list[str]:
    headings = ["row", "seeds", "parameters (live)", "GFLOP/clip", "training CPU-s", "bits/clip"]
    headings += [column.heading for column in table.columns]
    lines = _header([*headings, "usage %", "perplexity"])
    for label, results in table.runs.items():
        parts = [result["parts"][table.part] for result in results]
        first = results[0]
        lines.append(
            _line(
                label,
                str(len(results)),
                f"{first['num_parameters']:,} ({first['num_live_parameters']:,})",
                f"{first['gflop_per_clip']:.2f}",
                f"{statistics.fmean(result['training_cpu_s'] for result in results):.0f}",
                f"{first['bits_per_clip']:,.0f}",
                *(_cell(column, parts) for column in table.columns),
                _by_codebook([part["usage"] for part in parts], scale=100),
                _by_codebook([part["perplexity"] for part in parts], scale=1),
            )
        )
    for label, result in table.anchors.items():
        cells = [_cell(column, [result["parts"][table.part]]) for column in table.columns]
        lines.append(_line(f"*{label}*", *[NOTHING] * 5, *cells, NOTHING, NOTHING))
    return lines


def _counted(table: PartTable) -> list[str]:
    """On how many ids per code usage and perplexity rest."""
    runs = [result["parts"][table.part] for results in table.runs.values() for result in results]
    numbers = sorted({round(ids, 1) for part in runs for ids in part["ids_per_code"].values()})
    shown = " to ".join(f"{number:g}" for number in dict.fromkeys([numbers[0], numbers[-1]]))
    return [f"Usage and perplexity: counted on {shown} ids per code.", ""]


def _frame_table(table: PartTable) -> list[str]:
    rows = {
        label: [part["frame_psnr_db"] for part in parts]
        for label, parts in table.rows.items()
        if "frame_psnr_db" in parts[0]
    }
    num_latent_frames = len(next(iter(rows.values()))[0])
    lines = _header(["row", *map(str, range(num_latent_frames))])
    for label, seeds in rows.items():
        lines.append(_line(label, *(spread(frame, 2) for frame in zip(*seeds, strict=True))))
    return lines


def _difference_table(table: PartTable) -> list[str]:
    columns = [
        column
        for column in table.columns
        if any(column.measure in found for found in table.differences.values())
    ]
    lines = [
        f"Difference to `{REFERENCE_ROW}` on the same clips, and its 95 % interval (bootstrap over "
        f"videos, means over seeds; no interval with fewer than {MIN_GROUPS} videos):",
        "",
        *_header(["row", *(column.heading for column in columns)]),
    ]
    for label, found in table.differences.items():
        cells = [_interval(column, found.get(column.measure)) for column in columns]
        lines.append(_line(label, *cells))
    return lines


def _beating(table: PartTable) -> list[str]:
    """Which rows are better than the still picture, and in what."""
    if STILL_ROW not in table.anchors:
        return []
    still = table.anchors[STILL_ROW]["parts"][table.part]
    compared = [column for column in table.columns if column.value(still) is not None]
    sentences = []
    for label, parts in table.rows.items():
        if label in table.anchors:
            continue
        better = [column.heading for column in compared if _is_better(column, parts, still)]
        if len(better) == len(compared):
            sentences.append(f"{label}: in everything")
        else:
            sentences.append(f"{label}: {'in ' + ', '.join(better) if better else 'in nothing'}")
    return [f"Better than the {STILL_ROW} — {'; '.join(sentences)}.", ""]


def _is_better(column: Column, parts: Sequence[Result], still: Result) -> bool:
    mean, limit = mean_of([column.value(part) for part in parts]), column.value(still)
    if mean is None or limit is None:
        return False
    return mean > limit if column.higher_is_better else mean < limit


def _interval(column: Column, found: Interval | None) -> str:
    if found is None:
        return NOTHING
    mean = column.written(column.scale * found.mean, sign="+")
    if found.low is None or found.high is None:
        return mean
    low, high = (column.written(column.scale * end, sign="+") for end in (found.low, found.high))
    return f"{mean} [{low}, {high}]"


def _cell(column: Column, parts: Sequence[Result]) -> str:
    return spread([column.value(part) for part in parts], column.decimals)


def _by_codebook(values: Sequence[dict[str, float]], *, scale: float) -> str:
    """Means over seeds, "spatial / temporal" or the one number of a single codebook."""
    return " / ".join(
        f"{scale * statistics.fmean(value[name] for value in values):.0f}" for name in values[0]
    )


def _header(headings: Sequence[str]) -> list[str]:
    return [_line(*headings), "|---|" + "---:|" * (len(headings) - 1)]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _notes(yardstick: Yardstick | None) -> list[str]:
    notes = [
        "Mean ± standard deviation over seeds. Same clips in the same order, same steps, same "
        "optimiser for all rows of a seed. Rows in italics are not trained. Live parameters are "
        "those that get a gradient at all; GFLOP are those of reconstructing one clip. Usage "
        "and perplexity: spatial / temporal codebook, or the only one, each counted on equally "
        "many ids per code (a codebook for all tokens is asked more often than two for some)."
    ]
    if yardstick is not None:
        notes.append(
            f"The motion network names {100 * yardstick.accuracy:.1f} % of the original held-out "
            f"clips rightly; chance is {100 / NUM_CLASSES:.1f} %. The Fréchet distance is between "
            f"its {yardstick.num_features} features of originals and of reconstructions; it is no "
            "FVD. That of the originals is between random halves of the videos, which are fewer "
            "clips and so a little further apart. The probes are linear readers of the tokens "
            "alone; that of the 8-px means reads grey means and how much they change."
        )
    return notes
