"""Measures the reader beside plain pyarrow scanning and Hugging Face datasets, in one run.

Makes a dataset of random tokens once, then reads it in processes of their own: throughput in and
out of order, the time to the first batch after resuming in the middle, memory by window size.
"""

import sys

from pipeline.cli import run_job
from pipeline.reading.benchmark import ReaderBenchmarkConfig, benchmark_reader


def main(config: ReaderBenchmarkConfig) -> None:
    """Measures and prints the tables."""
    print(benchmark_reader(config))


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            ReaderBenchmarkConfig,
            main,
            example="python jobs/benchmark_reader.py --config configs/benchmark_reader.yaml",
        )
    )
