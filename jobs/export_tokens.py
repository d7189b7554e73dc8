"""Exports a token dataset for other trainers: WebDataset, Hugging Face datasets, Megatron.

Reads one pinned version, all clips or those that filters leave, and writes a directory that appears
whole or not at all.
"""

import sys

from pipeline.cli import run_job
from pipeline.exports.job import ExportConfig, export_tokens


def main(config: ExportConfig) -> None:
    """Exports and says how much."""
    print(export_tokens(config).line())


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            ExportConfig,
            main,
            example="python jobs/export_tokens.py --config configs/export_tokens.yaml "
            "--set format=megatron --set sequences=flat --set output=runs/export/megatron",
        )
    )
