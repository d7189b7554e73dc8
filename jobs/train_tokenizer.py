"""Fits a SweetTok tokenizer to videos with Ray Train.

Runs on the Ray inside this process, on a running cluster (RAY_ADDRESS or cluster.address), or as
`ray job submit --working-dir . -- python jobs/train_tokenizer.py --config …`. The same command
continues an interrupted run and does nothing if the run is finished.
"""

import sys

from pipeline.cli import run_job
from pipeline.training.config import TrainConfig
from pipeline.training.fit import fit_tokenizer


def main(config: TrainConfig) -> None:
    """Trains and prints where the tokenizer is."""
    result = fit_tokenizer(config)
    if result.num_steps is None:
        done = "was trained before; nothing to do"
    elif result.kept_step is None:
        done = f"trained for {result.num_steps} steps"
    else:
        done = f"trained for {result.num_steps} steps, the best weights were those of step "
        done += str(result.kept_step)
    print(f"tokenizer {result.fingerprint} {done}: {result.output}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            TrainConfig,
            main,
            example="python jobs/train_tokenizer.py --config configs/train_tiny.yaml "
            "--set training.phases.video.num_steps=2000",
        )
    )
