"""Measures the encoder: against a plain restatement of the published computation, and over batches.

Prints one table (with `sweep` set, as for a GPU, a second one over batch sizes and precisions) and
writes all numbers to a JSON file.
"""

import sys

from pipeline.cli import run_job
from sweettok.benchmarking.benchmark import BenchmarkConfig, run_benchmark


def main(config: BenchmarkConfig) -> None:
    """Measures, prints and says where the JSON file is."""
    print(run_benchmark(config))
    print(f"all numbers: {config.output}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            BenchmarkConfig,
            main,
            example="python jobs/benchmark_model.py --config configs/benchmark_model.yaml "
            "--set sweep.device=cuda",
        )
    )
