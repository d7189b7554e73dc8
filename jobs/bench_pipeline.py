"""Measures the pipeline against what decoding and encoding cost by themselves, in one run.

Decoding alone, encoding alone, the whole pipeline on Ray and the baselines (a plain script, a
textbook Ray Data pipeline) take turns over the same videos, each in processes of its own. Reports
throughput, processor seconds per clip, start-up, memory, what limits the pipeline, and whether the
goals are met; all sides must give the same tokens.
"""

import sys

from pipeline.cli import run_job
from pipeline.throughput.benchmark import bench_pipeline
from pipeline.throughput.config import PipelineBenchmarkConfig


def main(config: PipelineBenchmarkConfig) -> None:
    """Measures and prints the tables."""
    print(bench_pipeline(config).text())


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            PipelineBenchmarkConfig,
            main,
            example="python jobs/bench_pipeline.py --config configs/bench_pipeline.yaml "
            "--set source.uris=[s3://bucket/videos]",
        )
    )
