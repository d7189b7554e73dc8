"""Looks after a token dataset: compaction, clean-up, pins, takedowns.

Safe while other jobs write and read: files are replaced by compare-and-swap commits, and only
those are deleted that no version within the retention and no pinned version needs. Run it
regularly; dry_run=true prints what would happen.
"""

import sys

from pipeline.cli import run_job
from pipeline.maintenance import MaintainConfig, maintain_dataset


def main(config: MaintainConfig) -> None:
    """Does it and prints files and bytes."""
    print(*maintain_dataset(config).lines(), sep="\n")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            MaintainConfig,
            main,
            example="python jobs/maintain_dataset.py --config configs/maintain_dataset.yaml "
            "--set dataset.uri=s3://bucket/tokens --set dry_run=true",
        )
    )
