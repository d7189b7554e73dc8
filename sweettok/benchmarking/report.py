"""The benchmark as a text table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Sequence
from typing import Any

import torch

from sweettok.benchmarking.comparison import ComparisonResult
from sweettok.benchmarking.sweep import SweepRow

_MIB = 2**20


def comparison_table(result: ComparisonResult) -> str:
    """One row per side, then the ratios."""
    header = (
        "encode, one clip",
        "GFLOP",
        "CPU-s",
        "wall s",
        "of matrix rate",
        "peak MiB",
        "added MiB",
    )
    rows = [header]
    for side in result.sides:
        peak = added = "–"
        if side.memory is not None:
            peak = f"{side.memory.peak_bytes / _MIB:,.0f}"
            added = f"{side.memory.encoding_bytes / _MIB:,.0f}"
        rows.append(
            (
                side.name,
                f"{side.num_flops / 1e9:,.1f}",
                f"{side.timing.median_cpu_s:.2f}",
                f"{side.timing.median_wall_s:.2f}",
                f"{side.rate_fraction:.0%}",
                peak,
                added,
            )
        )
    rate = result.matrix_flops_per_cpu_s / 1e9
    return (
        f"{_aligned(rows)}\n"
        f"CPU seconds {result.cpu_ratio:.2f}× fewer "
        f"({result.cpu_ratio_with_stored_codes:.2f}× without the restatement's codebooks, "
        f"{result.codebooks.median_cpu_s:.2f} CPU-s of it), "
        f"wall time {result.wall_ratio:.2f}× less; "
        f"matrix rate {rate:.0f} GFLOP per CPU second in the same run"
    )


def sweep_table(rows: Sequence[SweepRow]) -> str:
    """One row per precision and batch size."""
    header = (
        "precision",
        "batch",
        "ms/clip",
        "clips/s",
        "tokens/s",
        "of matrix rate",
        "ids changed",
    )
    shown = [
        (
            row.precision,
            str(row.batch_size),
            f"{row.ms_per_clip:.2f}",
            f"{row.clips_per_s:,.1f}",
            f"{row.tokens_per_s:,.0f}",
            f"{row.rate_fraction:.0%}",
            f"{row.spatial_ids_changed:.2%} / {row.temporal_ids_changed:.2%}",
        )
        for row in rows
    ]
    return _aligned([header, *shown])


def as_json(comparison: ComparisonResult | None, rows: Sequence[SweepRow]) -> str:
    """Everything measured, with the machine it was measured on."""
    content: dict[str, Any] = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "num_threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "comparison": None,
        "sweep": [dataclasses.asdict(row) for row in rows],
    }
    if comparison is not None:
        content["comparison"] = dataclasses.asdict(comparison) | {
            "cpu_ratio": comparison.cpu_ratio,
            "cpu_ratio_with_stored_codes": comparison.cpu_ratio_with_stored_codes,
            "wall_ratio": comparison.wall_ratio,
        }
    return json.dumps(content, indent=2) + "\n"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
