"""The whole benchmark of one configuration: the comparison, then the sweep."""

from __future__ import annotations

from pathlib import Path

import pydantic

from sweettok.benchmarking.comparison import ComparisonConfig, compare_encoders
from sweettok.benchmarking.report import as_json, comparison_table, sweep_table
from sweettok.benchmarking.sweep import SweepConfig, SweepRow, sweep
from sweettok.config import SweetTokConfig
from sweettok.strict_config import StrictConfig


class BenchmarkConfig(StrictConfig):
    """What is benchmarked, and where the numbers go.

    Attributes:
        model: Sizes of the tokenizer; words, weights and pixels are random.
        comparison: Against the plain restatement, on the CPU; null leaves it out.
        sweep: Batch sizes and precisions on a device; null leaves it out.
        output: JSON file with everything measured.
    """

    model: SweetTokConfig = SweetTokConfig()
    comparison: ComparisonConfig | None = ComparisonConfig()
    sweep: SweepConfig | None = None
    output: str = "runs/benchmark_model.json"

    @pydantic.model_validator(mode="after")
    def _something_is_measured(self) -> BenchmarkConfig:
        if self.comparison is None and self.sweep is None:
            raise ValueError("comparison and sweep are both null: there is nothing to measure")
        return self


def run_benchmark(config: BenchmarkConfig) -> str:
    """Measures and returns the tables as text; the JSON file is written after every measurement."""
    comparison = compare_encoders(config.model, config.comparison) if config.comparison else None
    path = Path(config.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(comparison, []), encoding="utf-8")
    rows: list[SweepRow] = []
    for row in sweep(config.model, config.sweep) if config.sweep else ():
        rows.append(row)
        path.write_text(as_json(comparison, rows), encoding="utf-8")
    tables = [comparison_table(comparison)] if comparison else []
    return "\n\n".join(tables + ([sweep_table(rows)] if rows else []))
