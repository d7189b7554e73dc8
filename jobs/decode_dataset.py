"""Decodes a token dataset back to video: one mp4 per clip and a contact sheet.

Needs nothing but the dataset, which carries its tokenizer. Where the original videos still exist,
the contact sheet shows them above their reconstructions.
"""

import sys

from pipeline.cli import run_job
from pipeline.decode_job import DecodeDatasetConfig, decode_dataset


def main(config: DecodeDatasetConfig) -> None:
    """Decodes and prints where the files are."""
    files = decode_dataset(config)
    print(f"{files.num_clips} clips decoded to {files.directory}, overview: {files.contact_sheet}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            DecodeDatasetConfig,
            main,
            example="python jobs/decode_dataset.py --config configs/decode_dataset.yaml "
            "--set dataset.uri=s3://bucket/tokens --set max_clips=20",
        )
    )
