"""Trains a generator on a token dataset with Ray Train.

Runs on the Ray inside this process, on a running cluster (RAY_ADDRESS or cluster.address), or as
`ray job submit --working-dir . -- python jobs/train_generator.py --config …`. The same command
again continues an interrupted run; when the generator is there, it does nothing.
"""

import sys

from pipeline.cli import run_job
from pipeline.generator.config import TrainGeneratorConfig
from pipeline.generator.fit import fit_generator


def main(config: TrainGeneratorConfig) -> None:
    """Trains and says how well."""
    print(*fit_generator(config).lines(), sep="\n")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            TrainGeneratorConfig,
            main,
            example="python jobs/train_generator.py --config configs/train_generator.yaml",
        )
    )
