"""What a run that was cut off has left to do, told by the dataset alone."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from pipeline.dataset import CommitSummary, TokenDataset
from pipeline.id_index import KeyColumns, is_repeated, keys_of_packed, packed_ids
from pipeline.records import WorkUnit


def unfinished_units(
    units: Sequence[WorkUnit], dataset: TokenDataset, run_id: str
) -> list[WorkUnit]:
    """Those of `units` whose fate the run `run_id` has still to find.

    A unit is finished if the dataset holds its tokens, whoever wrote them, or if this run
    quarantined it; an older quarantine row may be the reason why the unit is worked on again.
    """
    tokenized = dataset.clips.fingerprints([unit.video_id for unit in units])
    rows = dataset.quarantine().filter(pc.field("run_id") == run_id)
    quarantined = dict(
        zip(rows["video_id"].to_pylist(), rows["video_fingerprint"].to_pylist(), strict=True)
    )
    return [
        unit
        for unit in units
        if unit.fingerprint not in (tokenized.get(unit.video_id), quarantined.get(unit.video_id))
    ]


def committed_by(run_id: str, dataset: TokenDataset, num_units: int) -> CommitSummary:
    """What a run has committed, counted in the rows that carry its name.

    Args:
        run_id: Name of a run that has finished all its units.
        dataset: At its latest version.
        num_units: Units of the run; those without a row of it were finished by another one.
    """
    videos, num_clips = KeyColumns(), 0
    for batch in dataset.rows(["video_id"], filter=pc.field("run_id") == run_id):
        num_clips += batch.num_rows
        videos.add(keys_of_packed(packed_ids(batch["video_id"].unique()).combine_chunks()))
    num_videos = int((~is_repeated(*videos.take())).sum())
    num_quarantined = dataset.quarantine().filter(pc.field("run_id") == run_id).num_rows
    return CommitSummary(
        num_videos=num_videos,
        num_clips=num_clips,
        num_quarantined=num_quarantined,
        num_skipped=num_units - num_videos - num_quarantined,
    )
