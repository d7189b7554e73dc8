"""Tokenizes a corpus of videos into a token dataset with Ray Data.

Runs on the Ray inside this process, on a running cluster (RAY_ADDRESS or cluster.address), or as
`ray job submit --working-dir . -- python jobs/tokenize_corpus.py --config …`. Inputs that the
dataset already holds are left alone, so the same command again continues or does nothing. Inputs
that have changed replace their rows, inputs that are gone are kept or deleted as `--on-removed`
says, and inputs that cannot be tokenized become rows of the dataset's quarantine.
"""

import sys

from pipeline.cli import Flag, run_job
from pipeline.estimation.estimate import DRY_RUN_FLAGS, estimate_corpus
from pipeline.tokenization import TokenizeConfig, tokenize_corpus

FLAGS = (
    Flag(
        "--on-removed",
        "on_removed",
        "what becomes of videos that the source no longer lists (on_removed)",
        choices=("keep", "delete"),
    ),
    Flag(
        "--retry-quarantined",
        "retry_quarantined",
        "work again on inputs quarantined for these reasons, alone for all (retry_quarantined)",
        is_list=True,
    ),
    Flag(
        "--new-version-of",
        "dataset.new_version_of",
        "root of the dataset that this one continues with another tokenizer or other settings "
        "(dataset.new_version_of)",
    ),
)


def main(config: TokenizeConfig) -> None:
    """Tokenizes and prints the account of all inputs, or what a dry run would do."""
    if config.dry_run:
        print(*estimate_corpus(config).lines(), sep="\n", flush=True)
        return
    summary = tokenize_corpus(config)
    print(*summary.lines(), sep="\n", flush=True)
    summary.check_quarantine(config.quarantine_budget)


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            TokenizeConfig,
            main,
            flags=(*FLAGS, *DRY_RUN_FLAGS),
            example="python jobs/tokenize_corpus.py --config configs/tokenize_corpus.yaml "
            "--set source.uris=[s3://bucket/videos] --set dataset.uri=s3://bucket/tokens",
        )
    )
