"""What is left to do: the listing minus what the dataset already holds.

Done before anything heavy starts, from ids and fingerprints alone, so that a second run of the
same command costs one listing and one small read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from pipeline.dataset.token_dataset import STATE_QUARANTINED
from pipeline.records import ListedVideo, WorkUnit


@dataclass(frozen=True, slots=True)
class PlanCounts:
    """How a listing compares with a dataset; the last five add up to `num_listed`.

    Attributes:
        num_listed: Inputs that the listing gave.
        num_repeated: Inputs listed more than once, counted from the second time on.
        num_new: Videos that the dataset does not know.
        num_changed: Videos it knows in another state; their old rows will be replaced.
        num_tokenized: Videos whose tokens it holds; nothing to do.
        num_quarantined: Videos it has quarantined in this very state; nothing to do unless a
            retry is asked for, and then they are among the units.
    """

    num_listed: int = 0
    num_repeated: int = 0
    num_new: int = 0
    num_changed: int = 0
    num_tokenized: int = 0
    num_quarantined: int = 0


def plan_units(
    listed: Iterable[ListedVideo], finished: pa.Table, *, retry_quarantined: bool = False
) -> tuple[list[WorkUnit], PlanCounts]:
    """The units that need work, in the order of the listing, and the counts for the log.

    Args:
        listed: The inputs as the listing saw them.
        finished: `TokenDataset.finished_units()`: video_id, video_fingerprint, state.
        retry_quarantined: Work again on unchanged videos that gave no clip last time.
    """
    names = ("video_id", "video_fingerprint", "state")
    known = {
        video_id: (fingerprint, state)
        for video_id, fingerprint, state in zip(
            *(finished[name].to_pylist() for name in names), strict=True
        )
    }
    units: list[WorkUnit] = []
    counts = dict.fromkeys(("new", "changed", "tokenized", "quarantined"), 0)
    seen: set[str] = set()
    num_listed = 0
    for video in listed:
        num_listed += 1
        unit = WorkUnit.from_listed(video)
        if unit.video_id in seen:
            continue
        seen.add(unit.video_id)
        kind = _kind(unit, known)
        counts[kind] += 1
        if kind in ("new", "changed") or (kind == "quarantined" and retry_quarantined):
            units.append(unit)
    return units, PlanCounts(
        num_listed=num_listed,
        num_repeated=num_listed - len(seen),
        **{f"num_{kind}": count for kind, count in counts.items()},
    )


def _kind(unit: WorkUnit, known: dict[str, tuple[str, str]]) -> str:
    if unit.video_id not in known:
        return "new"
    fingerprint, state = known[unit.video_id]
    if fingerprint != unit.fingerprint:
        return "changed"
    return "quarantined" if state == STATE_QUARANTINED else "tokenized"
