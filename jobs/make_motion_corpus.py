"""Renders the labelled motion corpus: 15 human motions from many views, with captions.

Writes mp4 files below corpus.directory, one row per clip in captions.jsonl, and a contact sheet.
What is there already is not rendered again. Needs the extra `motion` (pybullet).
"""

import sys

from pipeline.cli import run_job
from pipeline.motion_corpus.sheet import MotionCorpusJobConfig, make_corpus_with_sheet


def main(config: MotionCorpusJobConfig) -> None:
    """Makes the corpus and says where it is."""
    clips = make_corpus_with_sheet(config)
    print(f"{len(clips)} clips in {config.corpus.directory}; one of each motion: {config.picture}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            MotionCorpusJobConfig,
            main,
            example="python jobs/make_motion_corpus.py --config configs/motion_corpus.yaml",
        )
    )
