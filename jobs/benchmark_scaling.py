"""Measures how listing, planning and committing grow with a corpus, and what that means for more.

Every step runs at every size in a process of its own: a manifest of so many videos that do not
exist, a dataset that has nearly all of them, real data files and real commits. Prints seconds and
memory, the law through them with its confidence, and what it says of a much larger corpus; writes
all numbers to a JSON file and the curves to a picture.
"""

import sys

from pipeline.cli import run_job
from pipeline.scaling.growth import benchmark_scaling
from pipeline.scaling.growth_config import ScalingBenchmarkConfig


def main(config: ScalingBenchmarkConfig) -> None:
    """Measures, prints and says where the files are."""
    print(benchmark_scaling(config).text())
    print(f"\nall numbers: {config.output}; curves: {config.picture}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            ScalingBenchmarkConfig,
            main,
            example="python jobs/benchmark_scaling.py --config configs/benchmark_scaling.yaml "
            "--set num_units=[1000,3000,10000,30000]",
        )
    )
