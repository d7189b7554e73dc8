"""Few-shot recognition: which class a video belongs to, told from its tokens and a few examples.

Readers are language models that are given the videos' words (on this machine, or behind an
OpenAI-compatible address), and two that need none: nearest class by the words that occur, and by
their vectors. All answer the same episodes; the table has their means with 95 % intervals beside
chance. The same command continues an interrupted run; answers that are there are not asked again.
"""

import sys

from pipeline.cli import run_job
from pipeline.recognition.config import RecognizeConfig
from pipeline.recognition.recognize import recognize


def main(config: RecognizeConfig) -> None:
    """Asks all readers and prints the table and a line for each."""
    found = recognize(config)
    print(found.table)
    print("\n".join(found.lines))
    print(f"result and table: {found.directory}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            RecognizeConfig,
            main,
            example="python jobs/recognize.py --config configs/recognize.yaml",
        )
    )
