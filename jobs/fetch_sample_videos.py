"""Fetches the sample videos of the quickstart: python jobs/fetch_sample_videos.py

Three short videos for fitting and one that is held out, below data/samples. A second call finds
them there and needs no network. With --set natural: ten minutes of video, below data/natural.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.sample_videos import SAMPLE_SETS, fetch_sample_videos


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--set",
        choices=sorted(SAMPLE_SETS),
        default="quickstart",
        dest="sample_set",
        help="which videos (default: %(default)s)",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        help="where the videos go, in train/ and heldout/ (default: data/samples for the "
        "quickstart's, data/natural for the others)",
    )
    arguments = parser.parse_args()
    name = arguments.sample_set
    directory = arguments.directory or Path("data", "samples" if name == "quickstart" else name)
    try:
        fetch_sample_videos(directory, videos=SAMPLE_SETS[name], report=print)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
