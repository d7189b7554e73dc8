"""Shows the whole system on real sample videos, on a laptop, in a minute.

Fetches the samples, tokenizes them with Ray Data and the tokenizer that comes with the package into
a token dataset, reads the dataset back, decodes it, and ends with a summary and one HTML page. What
is done already is not done again; delete runs/quickstart to start over.
"""

import sys

from pipeline.cli import run_job
from pipeline.quickstart import QuickstartConfig, run_quickstart


def main(config: QuickstartConfig) -> None:
    """Runs all steps and prints the summary."""
    print(run_quickstart(config))


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            QuickstartConfig,
            main,
            example="python jobs/quickstart.py --config configs/quickstart.yaml",
        )
    )
