"""Compares the method with its alternatives: trained alike, measured on clips none has seen.

Trains every row with every seed on every corpus, a few minutes of CPU each, as many at a time as
there are cores, and prints one Markdown table per held-out part. The same command continues an
interrupted comparison. Needs the extra `motion` (pybullet), or `--set motion=null`.
"""

import sys

from pipeline.cli import run_job
from pipeline.proof.comparison import CompareConfig, compare_methods


def main(config: CompareConfig) -> None:
    """Runs the comparison and prints its tables."""
    comparison = compare_methods(config)
    print(comparison.tables)
    print(f"{comparison.num_new} new runs; tables, results and picture: {comparison.directory}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            CompareConfig,
            main,
            example="python jobs/compare_methods.py --config configs/compare_methods.yaml",
        )
    )
