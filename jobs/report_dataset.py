"""Writes one self-contained HTML page about a token dataset.

Originals beside what the stored tokens give back, the worst and the best clips, the words of each
clip and where their tokens look, and the use of both codebooks. Opens from disk, asks no network.
"""

import sys
from pathlib import Path

from pipeline.cli import run_job
from pipeline.dataset_report_job import ReportDatasetConfig, report_on_dataset


def main(config: ReportDatasetConfig) -> None:
    """Writes the page and prints the numbers."""
    print(report_on_dataset(config).text(config.title))
    print(f"page: {Path(config.report.output).absolute().as_uri()}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            ReportDatasetConfig,
            main,
            example="python jobs/report_dataset.py --config configs/report_dataset.yaml "
            "--set dataset.uri=s3://bucket/tokens --set report.output=tokens.html",
        )
    )
