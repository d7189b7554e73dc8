"""Refreshes a token dataset: one command for a scheduler, safe to start at any time and twice.

Does what tokenize_corpus does, then compacts the dataset and deletes the files of old versions. A
second refresh of the same dataset leaves at once with an exit code of its own; one that was
killed is taken over by the next.
"""

import sys

from pipeline.cli import run_job
from pipeline.estimation.estimate import DRY_RUN_FLAGS, estimate_corpus
from pipeline.refresh import RefreshConfig, refresh_dataset


def main(config: RefreshConfig) -> None:
    """Refreshes and prints the account of all inputs, files and bytes, or what a dry run finds."""
    if config.dry_run:
        print(*estimate_corpus(config).lines(), sep="\n", flush=True)
        return
    summary = refresh_dataset(config)
    print(*summary.lines(), sep="\n", flush=True)
    summary.tokenized.check_quarantine(config.quarantine_budget)


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            RefreshConfig,
            main,
            flags=DRY_RUN_FLAGS,
            example="python jobs/refresh_dataset.py --config configs/refresh_dataset.yaml "
            "--set source.uris=[s3://bucket/videos] --set dataset.uri=s3://bucket/tokens",
        )
    )
