"""Measures how fast sequences are drawn, beside the library's `generate` with its defaults.

One model, one process, contenders in turns; tokens per second and per CPU second.
"""

import sys

from pipeline.cli import run_job
from pipeline.generator.sampling_benchmark import SamplingBenchmarkConfig, benchmark_sampling


def main(config: SamplingBenchmarkConfig) -> None:
    """Measures and prints the table."""
    print(benchmark_sampling(config))


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            SamplingBenchmarkConfig,
            main,
            example="python jobs/benchmark_generate.py --config configs/benchmark_generate.yaml",
        )
    )
