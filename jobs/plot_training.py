"""Draws the losses, PSNR and codebook use of a training run as one picture."""

import sys

from pipeline.cli import run_job
from pipeline.training.curves import PlotConfig, plot_training


def main(config: PlotConfig) -> None:
    """Draws and prints where the picture is."""
    plot_training(config)
    print(f"curves: {config.picture}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            PlotConfig,
            main,
            example="python jobs/plot_training.py --config configs/plot_training.yaml "
            "--set metrics=runs/train_tiny/tokenizer/metrics.jsonl",
        )
    )
