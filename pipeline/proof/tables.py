"""The comparison as Markdown: one table per held-out part, means and spreads over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.proof.motion_network import NUM_CLASSES

Result = dict[str, Any]

ROW_NAMES = {
    "decoupled": "decoupled queries (the method)",
    "flattened": "flattened queries",
    "flattened_global": "flattened queries, global",
    "patch": "plain patch quantisation",
    "words_without_graph": "words without graph",
    "plain_language": "plain language codebook",
    "learned_codebook": "learned codebook",
}
PART_NAMES = {
    ("motion", "test"): "Motion corpus, held-out clips (other cameras and colours)",
    ("natural", "near"): "Natural video, the last part of the training videos",
    ("natural", "far"): "Natural video, a video of another scene",
}
NOTHING = "–"


@dataclass(frozen=True)
class Yardstick:
    """The motion network: its accuracy on originals, in [0, 1], and its number of features."""

    accuracy: float
    num_features: int


@dataclass(frozen=True)
class _Column:
    """A column: its heading, its number for one result and part, and how it is written."""

    heading: str
    value: Callable[[Result, Result], float | None]
    decimals: int


_COLUMNS = (
    _Column("PSNR dB", lambda _, part: part["psnr_db"], 2),
    _Column("SSIM", lambda _, part: part["ssim"], 3),
    _Column("VGG distance", lambda _, part: part["perceptual"], 3),
    _Column("Fréchet distance on the motion network", lambda _, part: part["frechet"], 2),
    _Column("motion recognised %", lambda _, part: _percent(part["recognised"]), 1),
    _Column("probe, words %", lambda result, _: _probed(result, "bag"), 1),
    _Column("probe, codes %", lambda result, _: _probed(result, "places"), 1),
)


def markdown_tables(
    results: Sequence[Result], rows: Sequence[str], yardstick: Yardstick | None
) -> str:
    """All tables, with what is needed to read them below.

    Args:
        results: Finished runs, as `pipeline.proof.runs` writes them.
        rows: The table's order.
        yardstick: The motion network, if there is one.
    """
    parts = [(result["corpus"], part) for result in results for part in result["parts"]]
    tables = [
        _table([result for result in results if result["corpus"] == corpus], part, rows)
        for corpus, part in dict.fromkeys(parts)
    ]
    return "\n".join([*tables, *_notes(yardstick), ""])


def _table(results: Sequence[Result], part: str, rows: Sequence[str]) -> str:
    corpus = results[0]["corpus"]
    num_clips = results[0]["parts"][part]["num_clips"]
    columns = [
        column
        for column in _COLUMNS
        if any(column.value(result, result["parts"][part]) is not None for result in results)
    ]
    headings = ["row", "seeds", "parameters", "bits/clip", *(column.heading for column in columns)]
    headings += ["usage %", "perplexity"]
    lines = [
        f"### {PART_NAMES.get((corpus, part), f'{corpus}, {part}')}: {num_clips} clips",
        "",
        "| " + " | ".join(headings) + " |",
        "|---|" + "---:|" * (len(headings) - 1),
    ]
    for row in rows:
        of_row = [result for result in results if result["row"] == row]
        if of_row:
            lines.append("| " + " | ".join(_cells(of_row, part, row, columns)) + " |")
    return "\n".join([*lines, ""])


def _cells(results: Sequence[Result], part: str, row: str, columns: Sequence[_Column]) -> list[str]:
    first = results[0]
    pairs = [(result, result["parts"][part]) for result in results]
    return [
        ROW_NAMES.get(row, row),
        str(len(results)),
        f"{first['num_parameters']:,}",
        f"{first['bits_per_clip']:,.0f}",
        *(_spread([column.value(*pair) for pair in pairs], column.decimals) for column in columns),
        _by_codebook([found["usage"] for _, found in pairs], scale=100),
        _by_codebook([found["perplexity"] for _, found in pairs], scale=1),
    ]


def _spread(values: Sequence[float | None], decimals: int) -> str:
    """Mean ± sample standard deviation; the mean alone of a single seed."""
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    mean = f"{statistics.fmean(known):.{decimals}f}"
    return f"{mean} ± {statistics.stdev(known):.{decimals}f}" if len(known) > 1 else mean


def _by_codebook(values: Sequence[dict[str, float]], *, scale: float) -> str:
    """Means over seeds, "spatial / temporal" or the one number of a single codebook."""
    return " / ".join(
        f"{scale * statistics.fmean(value[name] for value in values):.0f}" for name in values[0]
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _probed(result: Result, reader: str) -> float | None:
    return None if result["probe"] is None else 100 * result["probe"][reader]


def _notes(yardstick: Yardstick | None) -> list[str]:
    notes = [
        "The method has decoupled queries and words with a graph; the next rows have other "
        "queries, the last ones another codebook. Mean ± standard deviation over seeds. Same clips "
        "in the same order, same steps, same optimiser for all rows of a seed. Usage and "
        "perplexity: spatial / temporal codebook, or the only one."
    ]
    if yardstick is not None:
        notes.append(
            f"The motion network names {100 * yardstick.accuracy:.1f} % of the original held-out "
            f"clips rightly; chance is {100 / NUM_CLASSES:.1f} %. The Fréchet distance is between "
            f"its {yardstick.num_features} features of originals and of reconstructions; it is no "
            "FVD. The probes are linear readers of the tokens alone."
        )
    return notes
