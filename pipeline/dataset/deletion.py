"""Rows that leave a dataset on purpose: videos that are gone, and videos that must not be in it.

A takedown writes a quarantine row first and deletes the clips then, and its second commit happens
even if there is nothing to delete. A committer refreshes in the other order (clips, then
quarantine): either its commit comes before the takedown's second one, which then deletes the
clips, or it loses the race, looks again, and finds the row. So no run that was under way can bring
a video back. A takedown that was stopped half-way is completed by the next commit of any run.

The bytes stay in the files of older versions until vacuum collects them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.assembly import CompletedUnit
from pipeline.dataset.commits import on_newest_state
from pipeline.dataset.rows import quarantine_rows
from pipeline.dataset.side_files import checked_name
from pipeline.errors import DatasetError, QuarantineReason
from pipeline.records import Quarantine, WorkUnit, stable_id
from pipeline.storage import canonical_uri

if TYPE_CHECKING:
    from pipeline.dataset.token_dataset import TokenDataset
    from pipeline.dataset.video_table import VideoTable

logger = logging.getLogger(__name__)

_VIDEO_ID = re.compile(r"[0-9a-f]{32}")
_STAGE, _ERROR_CLASS = "takedown", "Takedown"


@dataclass(frozen=True, slots=True)
class Removal:
    """What a deletion or a takedown of named videos did, or would do.

    Attributes:
        num_forbidden: Videos that are kept out from now on and were not before; 0 for a deletion.
        num_videos: Videos whose rows were deleted: clips, and for a deletion quarantine rows too.
        num_clips: Clip rows that were deleted.
        unknown: The videos, as they were named, of which the dataset has never held a row (for a
            deletion: holds no row now).
    """

    num_forbidden: int = 0
    num_videos: int = 0
    num_clips: int = 0
    unknown: tuple[str, ...] = ()


def expected_deletion(dataset: TokenDataset, videos: Sequence[str]) -> Removal:
    """What deleting videos, named by URIs or ids, would do to this version of the dataset."""
    given = {video_id_of(video): video for video in videos}
    wanted = pa.array(list(given), pa.string())
    in_clips = dataset.clips.keys_of(wanted)["video_id"].unique()
    quarantined = _not_taken_down(dataset)["video_id"]
    there = {*in_clips.to_pylist(), *quarantined.to_pylist()} & given.keys()
    return Removal(
        num_videos=len(there),
        num_clips=dataset.clips.num_rows_of(in_clips),
        unknown=tuple(video for video_id, video in given.items() if video_id not in there),
    )


def expected_takedown(dataset: TokenDataset, videos: Sequence[str]) -> Removal:
    """What taking videos down would do to this version of the dataset.

    Raises:
        DatasetError: As `take_down`.
    """
    units = _units_of(dataset, videos)
    banned = set(dataset.taken_down_ids().to_pylist())
    wanted = pa.array(banned.union(unit.video_id for unit in units), pa.string())
    there = dataset.clips.keys_of(wanted)["video_id"].unique()
    return Removal(
        sum(unit.video_id not in banned for unit in units),
        len(there),
        dataset.clips.num_rows_of(there),
        _never_seen(units, videos),
    )


def delete_videos(dataset: TokenDataset, video_ids: pa.Array, *, run_id: str, reason: str) -> int:
    """Takes all rows of videos out of both tables; see `TokenDataset.delete_videos`."""
    wanted = _plain_array(video_ids)
    metadata = {"sweettok.run_id": checked_name(run_id, "run id"), "sweettok.reason": reason}

    def delete_from(table: VideoTable, keys: pa.Table) -> pa.Array:
        there = keys.filter(pc.is_in(keys["video_id"], value_set=wanted))["video_id"].unique()
        table.swap(there, [], metadata)
        return there

    in_clips = on_newest_state(
        dataset, lambda: delete_from(dataset.clips, dataset.clips.keys_of(wanted))
    )
    in_quarantine = on_newest_state(
        dataset, lambda: delete_from(dataset.quarantined, _not_taken_down(dataset))
    )
    num_videos = len(pa.chunked_array([in_clips, in_quarantine], pa.string()).unique())
    if num_videos:
        logger.info("version %d: %d videos deleted (%s)", dataset.version, num_videos, reason)
    return num_videos


def take_down(dataset: TokenDataset, videos: Sequence[str], *, run_id: str, reason: str) -> Removal:
    """Deletes videos for good; see `TokenDataset.take_down`."""
    metadata = {"sweettok.run_id": checked_name(run_id, "run id"), "sweettok.reason": "takedown"}
    dataset.refresh()
    units = _units_of(dataset, videos)

    def forbid() -> int:
        known = set(dataset.taken_down_ids().to_pylist())
        arriving = [unit for unit in units if unit.video_id not in known]
        if arriving:
            outgoing = [unit.video_id for unit in arriving]
            rows = _takedown_rows(arriving, run_id, reason)
            table = dataset.quarantined
            table.swap(outgoing, [table.write(rows)], metadata)
        return len(arriving)

    num_new = on_newest_state(dataset, forbid)

    def delete() -> tuple[int, int]:
        # Of all that was ever taken down: an earlier takedown may have been stopped half-way.
        there = dataset.clips.keys_of(dataset.taken_down_ids())["video_id"].unique()
        num_clips = dataset.clips.num_rows_of(there)
        if num_new or len(there):
            dataset.clips.swap(there, [], metadata, even_if_empty=True)
        return len(there), num_clips

    removal = Removal(num_new, *on_newest_state(dataset, delete), _never_seen(units, videos))
    logger.info(
        "version %d: %d videos newly taken down, %d clips of %d videos deleted",
        dataset.version,
        removal.num_forbidden,
        removal.num_clips,
        removal.num_videos,
    )
    return removal


def lift_takedown(dataset: TokenDataset, videos: Sequence[str], *, run_id: str) -> int:
    """Lets videos in again; see `TokenDataset.lift_takedown`."""
    metadata = {"sweettok.run_id": checked_name(run_id, "run id"), "sweettok.reason": "lifted"}
    wanted = pa.array([video_id_of(video) for video in videos], pa.string())

    def lift() -> int:
        banned = dataset.taken_down_ids()
        leaving = banned.filter(pc.is_in(banned, value_set=wanted))
        dataset.quarantined.swap(leaving, [], metadata)
        return len(leaving)

    return on_newest_state(dataset, lift)


def _units_of(dataset: TokenDataset, videos: Sequence[str]) -> list[WorkUnit]:
    """One unit per video, with the URI and the fingerprint that the dataset knows, if it does."""
    given = {video_id_of(video): video for video in videos}
    known = {row["video_id"]: row for row in _stored_rows(dataset, list(given))}
    units = []
    for video_id, video in given.items():
        row = known.get(video_id)
        if row is None and video == video_id:
            raise DatasetError(
                f"{dataset.uri}: no video has the id {video}; give its URI, so that it is "
                "recognised if it ever comes"
            )
        uri = _video_uri(video) if row is None else row["video_uri"]
        fingerprint = "" if row is None else row["video_fingerprint"]
        units.append(WorkUnit(video_id, uri, fingerprint, size_bytes=0))
    return units


def _never_seen(units: list[WorkUnit], videos: Sequence[str]) -> tuple[str, ...]:
    """Those of `videos`, as given, of which not even an earlier takedown knew the fingerprint."""
    given = {video_id_of(video): video for video in videos}
    return tuple(given[unit.video_id] for unit in units if not unit.fingerprint)


def _stored_rows(dataset: TokenDataset, video_ids: list[str]) -> list[dict[str, str]]:
    columns = ["video_id", "video_uri", "video_fingerprint"]
    chosen = pc.field("video_id").isin(video_ids)
    rows = []
    for table in (dataset.quarantined, dataset.clips):
        found = table.arrow_dataset().to_table(columns=columns, filter=chosen)
        rows += found.group_by(columns).aggregate([]).to_pylist()
    return rows


def _takedown_rows(units: list[WorkUnit], run_id: str, reason: str) -> pa.Table:
    why = Quarantine(QuarantineReason.TAKEN_DOWN, _STAGE, _ERROR_CLASS, reason, attempts=0)
    return quarantine_rows([CompletedUnit(unit, (), why) for unit in units], run_id)


def _not_taken_down(dataset: TokenDataset) -> pa.Table:
    keys = dataset.quarantined.keys()
    reasons = pc.fill_null(keys["reason"], "")
    return keys.filter(pc.not_equal(reasons, QuarantineReason.TAKEN_DOWN.value))


def is_video_id(text: str) -> bool:
    """Whether `text` has the form of a video's id."""
    return _VIDEO_ID.fullmatch(text) is not None


def video_id_of(video: str) -> str:
    """The id that `video` is, or that the video at this URI has."""
    if is_video_id(video):
        return video
    return stable_id("video", _video_uri(video))


def _video_uri(video: str) -> str:
    """The canonical URI of a path or URI; of a video inside a shard, with its name behind a "#"."""
    if "://" not in video:
        return canonical_uri(video)
    shard, mark, member = video.partition("#")
    return canonical_uri(shard) + mark + member


def _plain_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return array.cast(pa.string())
