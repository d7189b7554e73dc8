"""Compares the method with its alternatives: trained alike, measured on clips none has seen.

Trains every row with every seed on every corpus, a few minutes of CPU each, as many at a time as
there are cores, and prints one Markdown table per held-out part. The same command continues an
interrupted comparison; weights are kept, so other measures need no new training. Needs the extra
`motion` (pybullet), or `--set motion=null`.
"""

import sys

from pipeline.cli import run_job
from pipeline.proof.comparison import compare_methods
from pipeline.proof.comparison_config import CompareConfig


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
