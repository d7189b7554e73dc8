"""Prints the submission id of a dataset's refresh, which guards against submitting it twice.

    ray job submit --submission-id "$(python jobs/submission_id.py --config …)" … \\
        -- python jobs/refresh_dataset.py --config …

The id is made of the dataset's URI and the day (UTC): Ray refuses the second submission.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from pipeline.exit_codes import ExitCode
from pipeline.refresh import RefreshConfig
from pipeline.submission import Period, submission_id
from sweettok.errors import ConfigError
from sweettok.strict_config import load_config


def main() -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", required=True, type=Path, metavar="FILE", help="YAML file of the refresh"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting"
    )
    parser.add_argument(
        "--every",
        choices=[period.value for period in Period],
        default=Period.DAY.value,
        help="how often the schedule submits (default: %(default)s)",
    )
    parser.add_argument(
        "--attempt", type=int, default=1, help="2, 3, … to submit again within the same period"
    )
    arguments = parser.parse_args()
    try:
        config = load_config(RefreshConfig, arguments.config, arguments.set)
    except (ConfigError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return ExitCode.USAGE
    period, now = Period(arguments.every), datetime.now(UTC)
    print(submission_id(config.dataset.uri, now, period, attempt=arguments.attempt))
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
