"""Measures planning: a manifest compared with a dataset that has nearly all of its videos.

Prints one table over sizes, with a straight line's word on a much larger one, and writes all
numbers to a JSON file.
"""

import sys

from pipeline.cli import run_job
from pipeline.planning_benchmark import PlanningBenchmarkConfig, run_planning_benchmark


def main(config: PlanningBenchmarkConfig) -> None:
    """Measures, prints and says where the JSON file is."""
    print(run_planning_benchmark(config).table())
    print(f"all numbers: {config.output}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            PlanningBenchmarkConfig,
            main,
            example="python jobs/benchmark_planning.py --config configs/benchmark_planning.yaml "
            "--set num_videos=[10000,100000]",
        )
    )
