"""Draws samples from a trained generator: mp4 files, a contact sheet and a token dataset."""

import sys

from pipeline.cli import run_job
from pipeline.generator.generate import GenerateConfig, generate


def main(config: GenerateConfig) -> None:
    """Draws and says where."""
    print(generate(config).line())


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            GenerateConfig,
            main,
            example="python jobs/generate.py --config configs/generate.yaml",
        )
    )
