"""Fetches the sample videos of the quickstart: python jobs/fetch_sample_videos.py

Three short videos for fitting and one that is held out, below data/samples. A second call finds
them there and needs no network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.sample_videos import fetch_sample_videos


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("data/samples"),
        help="where the videos go, in train/ and heldout/ (default: %(default)s)",
    )
    arguments = parser.parse_args()
    try:
        fetch_sample_videos(arguments.directory, report=print)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
