"""A result for people: what was measured, the tables, what to know before comparing numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.preview.report_data import Table

Result = Mapping[str, Any]

NOTHING = "–"
MARK = "*"  # on a number that a warning is about


def markdown(result: Result) -> str:
    """The whole result as Markdown."""
    lines = ["### Protocol", "", f"- {result['protocol_in_words']}"]
    lines += [f"- {sample_in_words(result)}", *_left_out(result), ""]
    for table in tables_of(result):
        lines += [f"### {table.title}", "", *_header(table.headings)]
        lines += [*(_line(*row) for row in table.rows), ""]
    lines += [_escaped(f"{MARK} {warning}.") for warning in result["warnings"]]
    lines += ["", *(f"{note}\n" for note in notes_of(result)), ""]
    return "\n".join(lines)


def tables_of(result: Result) -> tuple[Table, ...]:
    """Reconstruction and generation, as far as they were measured."""
    tables = []
    if result["tokenizers"]:
        tables.append(_reconstruction_table(result))
    if result["generated"]:
        tables.append(_generation_table(result))
    return tuple(tables)


def sample_in_words(result: Result) -> str:
    """How many clips and videos it is about."""
    sample = result["sample"]
    return (
        f"{sample['num_clips']} clips of {sample['num_videos']} videos, "
        f"{len(sample['left_out'])} videos left out"
    )


def _left_out(result: Result) -> list[str]:
    reasons: dict[str, int] = {}
    for video in result["sample"]["left_out"]:
        reasons[video["reason"]] = reasons.get(video["reason"], 0) + 1
    return [f"- left out: {count} × {reason}" for reason, count in reasons.items()]


def _reconstruction_table(result: Result) -> Table:
    rows = result["tokenizers"]
    metrics = list(rows[0]["frechet"])
    headings = ["tokenizer", "bits/clip", "bits/pixel", "PSNR dB", "SSIM"]
    perceptual = result["instruments"].get("perceptual")
    headings += [perceptual.partition(",")[0]] if perceptual else []
    headings += [f"r{metric}" if metric.startswith("FVD") else metric for metric in metrics]
    has_codebooks = any("codebooks" in row for row in rows)
    headings += ["used %", "perplexity", "entropy, bits/id"] if has_codebooks else []
    lines = []
    for row in rows:
        cells = [_number(row["bits_per_clip"], 0), _number(row["bits_per_pixel"], 5)]
        cells += [_interval(row["psnr_db"], 2), _interval(row["ssim"], 4)]
        cells += [_interval(row["perceptual"], 4)] if perceptual else []
        cells += [_distance(row["frechet"][metric]) for metric in metrics]
        if has_codebooks:
            found = row.get("codebooks", {}).values()
            cells += [
                _by_codebook([100 * book["usage"] for book in found], 1),
                _by_codebook([book["perplexity"] for book in found], 0),
                _by_codebook([book["entropy_bits_per_id"] for book in found], 2),
            ]
        lines.append((row["name"], *cells))
    return Table("Reconstruction", tuple(headings), tuple(lines))


def _generation_table(result: Result) -> Table:
    metrics = list(result["real_inception_score"])
    headings = ["clips", "number"]
    for metric in metrics:
        distance = f"g{metric}" if metric.startswith("FVD") else metric
        headings += [distance, f"inception score, {metric.rpartition(' on ')[2]}"]
    real = [
        cell
        for metric in metrics
        for cell in (NOTHING, _score(result["real_inception_score"][metric]))
    ]
    lines = [("real clips", str(result["sample"]["num_clips"]), *real)]
    for row in result["generated"]:
        cells = [
            cell
            for metric in metrics
            for cell in (
                _distance(row["frechet"][metric]),
                _score(row["inception_score"][metric]),
            )
        ]
        lines.append((row["name"], str(row["num_clips"]), *cells))
    return Table("Generation", tuple(headings), tuple(lines))


def notes_of(result: Result) -> list[str]:
    """What to know before its numbers are compared with others."""
    notes = [
        "Means over clips; [95 % interval by a bootstrap over videos]. Pixels are rounded to 8 "
        "bits before they are measured. Bits per clip: log2 of the codebook's size for each id; "
        "entropy: of the ids' own frequencies in this sample."
    ]
    if "perceptual" in result["instruments"]:
        notes.append(f"{result['instruments']['perceptual']}.")
    codecs = [row for row in result["tokenizers"] if "matched_share" in row]
    if codecs:
        shares = "; ".join(
            f"{row['name']}: {row['matched_share']:.0%} of the clips within "
            f"±{row['facts']['tolerance']:.0%} of {row['facts']['budget_bits_per_clip']:,.0f} "
            f"bits, {row['packet_bits_per_clip']:,.0f} with all headers"
            for row in codecs
        )
        notes.append(
            "Video codecs: every clip by itself, the best quality within its budget, at the best "
            "of several sizes and frame rates; counted are coded pictures without start codes, "
            f"parameter sets, messages or container. {shares}."
        )
    if any(row["frechet"] for row in [*result["tokenizers"], *result["generated"]]):
        notes.append(
            "Fréchet distances compare only with those of the same network, protocol and number "
            "of clips. Only one on an I3D is an FVD."
        )
    return notes


def _header(headings: Sequence[str]) -> list[str]:
    return [_line(*headings), "|---|" + "---:|" * (len(headings) - 1)]


def _line(*cells: str) -> str:
    return f"| {' | '.join(_escaped(cell.replace('|', '/')) for cell in cells)} |"


def _escaped(text: str) -> str:
    """An asterisk of Markdown marks something, ours is one."""
    return text.replace("*", "\\*")


def _number(value: float | None, decimals: int) -> str:
    return NOTHING if value is None else f"{value:,.{decimals}f}"


def _interval(found: Mapping[str, float | None], decimals: int) -> str:
    mean = _number(found["mean"], decimals)
    if found["low"] is None:
        return mean
    return f"{mean} [{_number(found['low'], decimals)}, {_number(found['high'], decimals)}]"


def _distance(found: Mapping[str, Any]) -> str:
    written = _interval({**found, "mean": found["distance"]}, 2)
    return f"{written} {MARK}" if found["warning"] else written


def _score(found: Mapping[str, Any]) -> str:
    if found["deviation"] is None:
        return f"{found['mean']:.2f}"
    return f"{found['mean']:.2f} ± {found['deviation']:.2f}"


def _by_codebook(values: Sequence[float], decimals: int) -> str:
    return " / ".join(_number(value, decimals) for value in values) or NOTHING
