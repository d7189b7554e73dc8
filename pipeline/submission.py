"""Names for submitted jobs, so that a schedule's second submission of the same work is refused.

Ray takes a submission id once in the life of a cluster. An id that is made of what a run writes
and the period that it stands for is therefore a guard against double scheduling: by a cron job
that fires twice, by two machines with the same table, by a person beside them.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from enum import StrEnum

from sweettok.uri_secrets import redacted

_LONGEST_NAME = 40


class Period(StrEnum):
    """How often the same work may be submitted once; times are UTC's."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"

    def stamp(self, moment: datetime) -> str:
        """The period that `moment` lies in: "20260131T05", "20260131" or "2026W05"."""
        moment = moment.astimezone(UTC)
        if self is Period.WEEK:
            year, week, _ = moment.isocalendar()
            return f"{year}W{week:02}"
        return f"{moment:%Y%m%dT%H}" if self is Period.HOUR else f"{moment:%Y%m%d}"


def submission_id(
    dataset_uri: str, moment: datetime, period: Period = Period.DAY, *, attempt: int = 1
) -> str:
    """The id of the refresh of a dataset in a period: "refresh-tokens-1f0c3a9e-20260131".

    Args:
        dataset_uri: Where the refresh writes; a slash at its end makes no difference.
        moment: When, with a time zone.
        period: What counts as the same time.
        attempt: More than 1 makes another id, for a deliberate repetition within the period.

    Returns:
        Letters, digits and "-_": the end of the URI for people, a hash of all of it, the period.
    """
    assert moment.tzinfo is not None
    uri = redacted(dataset_uri).rstrip("/")
    name = re.sub(r"[^A-Za-z0-9_]+", "-", uri.rpartition("/")[2]).strip("-")[:_LONGEST_NAME]
    digest = hashlib.sha256(uri.encode()).hexdigest()[:8]
    words = ["refresh", *([name] if name else []), digest, period.stamp(moment)]
    return "-".join([*words, *([f"attempt{attempt}"] if attempt > 1 else [])])
