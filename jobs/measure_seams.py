"""Measures whether tiles show in videos that are longer and larger than a tokenizer's clips.

Encodes and decodes the beginning of every video as overlapping tiles and prints one table: PSNR at
the borders of tiles against elsewhere, and how much more the picture jumps across them (1: not at
all).
"""

import sys

from pipeline.cli import run_job
from pipeline.seam_report import SeamConfig, measure_tiled_videos, seam_table


def main(config: SeamConfig) -> None:
    """Measures and prints."""
    print(seam_table(measure_tiled_videos(config)))


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            SeamConfig,
            main,
            example="python jobs/measure_seams.py --config configs/measure_seams.yaml "
            "--set tokenizer=runs/quickstart/tokenizer",
        )
    )
