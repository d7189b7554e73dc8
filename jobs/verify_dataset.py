"""Checks a token dataset against its own promises and prints what is wrong.

Every data file, every row, all rows together, the lineage and the stored tokenizer, the
quarantine, the summaries of the runs; some clips are made again from their videos. Changes
nothing; the exit code is 1 if anything was found.
"""

import sys

from pipeline.cli import run_job
from pipeline.errors import DatasetError
from pipeline.verification import VerifyConfig, verify_dataset
from pipeline.wording import counted


def main(config: VerifyConfig) -> None:
    """Verifies, prints the report, and fails if there is a finding."""
    report = verify_dataset(config)
    print(report.text(max_shown=config.shown_findings))
    if report.num_findings:
        findings = counted(report.num_findings, "finding")
        raise DatasetError(f"{report.dataset_uri}: {findings}, see above")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            VerifyConfig,
            main,
            example="python jobs/verify_dataset.py --config configs/verify_dataset.yaml "
            "--set dataset.uri=s3://bucket/tokens --set output=verification.json",
        )
    )
