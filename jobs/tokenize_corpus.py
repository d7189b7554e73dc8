"""Tokenizes a corpus of videos into a token dataset with Ray Data.

Runs on the Ray inside this process, on a running cluster (RAY_ADDRESS or cluster.address), or as
`ray job submit --working-dir . -- python jobs/tokenize_corpus.py --config …`. Inputs that the
dataset already holds are left alone, so the same command again continues or does nothing. Inputs
that cannot be tokenized become rows of the dataset's quarantine.
"""

import sys

from pipeline.cli import run_job
from pipeline.tokenization import TokenizeConfig, tokenize_corpus


def main(config: TokenizeConfig) -> None:
    """Tokenizes and prints the account of all inputs."""
    print(*tokenize_corpus(config).lines(), sep="\n")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            TokenizeConfig,
            main,
            example="python jobs/tokenize_corpus.py --config configs/tokenize_corpus.yaml "
            "--set source.uris=[s3://bucket/videos] --set dataset.uri=s3://bucket/tokens",
        )
    )
