"""What is left to do: the listing minus what the dataset already holds.

Done before anything heavy starts, from ids and fingerprints alone, so that a second run of the
same command costs one listing and one small read. The listing passes by in batches; what stays in
memory are 34 bytes per video of the dataset and 16 per unit; the units lie on the local disk.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt64

from pipeline.errors import QuarantineReason
from pipeline.id_index import KeyColumns, ids_of_keys, is_repeated, keys_of_digests
from pipeline.known_videos import (
    CHANGED,
    NEW,
    QUARANTINED,
    REPEATED,
    RETRIED,
    TAKEN_DOWN,
    TOKENIZED,
    KnownVideos,
)
from pipeline.records import ListedVideo, fingerprint_digest, video_digest
from pipeline.sources.batches import batches_of
from pipeline.unit_table import UNIT_SCHEMA, UnitTable, UnitWriter

logger = logging.getLogger(__name__)

_LOG_EVERY = 1_000_000
_IS_WORK = np.array([True, True, False, False, True, False, False])


@dataclass(frozen=True, slots=True)
class PlanCounts:
    """How a listing compares with a dataset.

    `num_repeated` to `num_taken_down` add up to `num_listed`.

    Attributes:
        num_listed: Inputs that the listing gave.
        num_repeated: Inputs listed more than once, counted from the second time on.
        num_new: Videos that the dataset does not know.
        num_changed: Videos it knows in another state; their old rows will be replaced.
        num_tokenized: Videos whose tokens it holds; nothing to do.
        num_quarantined: Videos it has quarantined in this very state; nothing to do unless a
            retry is asked for, and then they are among the units.
        num_taken_down: Videos that were taken down; never worked on, in whatever state.
        num_removed: Videos of the dataset, tokenized or quarantined, that the listing lacks.
        num_finished: Videos that the dataset knows, those taken down left out.
    """

    num_listed: int = 0
    num_repeated: int = 0
    num_new: int = 0
    num_changed: int = 0
    num_tokenized: int = 0
    num_quarantined: int = 0
    num_taken_down: int = 0
    num_removed: int = 0
    num_finished: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do.

    Attributes:
        units: Videos to work on, in the order of the listing.
        removed: Ids (string) of the videos that the dataset holds and the listing lacks.
        counts: How the two compare.
    """

    units: UnitTable
    removed: pa.ChunkedArray
    counts: PlanCounts


def plan(
    listing: Iterable[pa.RecordBatch],
    finished: Iterable[pa.RecordBatch],
    *,
    retry_quarantined: Collection[QuarantineReason] = (),
) -> Plan:
    """Compares a listing with a dataset.

    Of a video that is listed twice the first one counts, wherever the second one is.

    Args:
        listing: `pipeline.sources.list_batches(...)`.
        finished: `TokenDataset.finished_units()`.
        retry_quarantined: Work again on unchanged videos that were quarantined for these reasons.

    Raises:
        DatasetError: The dataset cannot be read, or holds ids that this pipeline did not make.
        PipelineError: The local disk has no room for the units.
    """
    difference = _Difference(finished, retry_quarantined)
    for batch in listing:
        difference.add(batch)
    return difference.plan()


def plan_units(
    videos: Iterable[ListedVideo],
    finished: Iterable[pa.RecordBatch],
    *,
    retry_quarantined: Collection[QuarantineReason] = (),
) -> tuple[UnitTable, PlanCounts]:
    """`plan` for a listing that is a stream of records: its units and counts."""
    planned = plan(batches_of(videos), finished, retry_quarantined=retry_quarantined)
    return planned.units, planned.counts


class _Difference:
    """The comparison, one batch of the listing after the other."""

    def __init__(
        self, finished: Iterable[pa.RecordBatch], retried: Collection[QuarantineReason]
    ) -> None:
        self._known = KnownVideos.read(finished, retried)
        self._is_listed = np.zeros(len(self._known), bool)
        self._totals = np.zeros(len(_IS_WORK), np.int64)
        self._work = UnitWriter()
        self._new_keys = KeyColumns()

    def add(self, batch: pa.RecordBatch) -> None:
        """Sorts the videos of one batch into kinds and keeps those that are work."""
        keys = keys_of_digests(map(video_digest, batch["uri"].to_pylist()))
        facts = zip(batch["size_bytes"].to_pylist(), batch["version"].to_pylist(), strict=True)
        fingerprints = keys_of_digests(fingerprint_digest(*fact) for fact in facts)
        kinds = self._kinds_of(keys, fingerprints)
        num_before = self._totals.sum()
        self._totals += np.bincount(kinds, minlength=len(_IS_WORK))
        num_listed = self._totals.sum()
        if num_listed // _LOG_EVERY > num_before // _LOG_EVERY:
            logger.info("%d videos listed so far", num_listed)
        is_work = _IS_WORK[kinds]
        if is_work.any():
            self._work.add(_units(batch, keys, fingerprints, is_work))
            self._new_keys.add(keys[is_work])

    def plan(self) -> Plan:
        """What the batches so far come to."""
        # A video that the dataset lacks may have come in two batches.
        is_late = is_repeated(*self._new_keys.take())
        num_late = int(is_late.sum())
        is_there = self._known.kinds != TAKEN_DOWN
        is_removed = ~self._is_listed & is_there
        totals = self._totals.tolist()
        counts = PlanCounts(
            num_listed=sum(totals),
            num_repeated=totals[REPEATED] + num_late,
            num_new=totals[NEW] - num_late,
            num_changed=totals[CHANGED],
            num_tokenized=totals[TOKENIZED],
            num_quarantined=totals[QUARANTINED] + totals[RETRIED],
            num_taken_down=totals[TAKEN_DOWN],
            num_removed=int(is_removed.sum()),
            num_finished=int(is_there.sum()),
        )
        units = self._work.table(without=is_late if num_late else None)
        return Plan(units, self._known.ids.texts(is_removed), counts)

    def _kinds_of(
        self,
        keys: UInt64[np.ndarray, "videos half"],
        fingerprints: UInt64[np.ndarray, "videos half"],
    ) -> Int64[np.ndarray, " videos"]:
        kinds = np.full(len(keys), NEW)
        is_again = is_repeated(keys[:, 0], keys[:, 1])
        positions = self._known.ids.positions(keys)
        known = np.flatnonzero(positions >= 0)
        at = positions[known]
        is_same = self._known.have_fingerprints(at, fingerprints[known])
        is_down = self._known.kinds[at] == TAKEN_DOWN
        kinds[known] = np.where(is_same | is_down, self._known.kinds[at], CHANGED)
        is_again[known] |= self._is_listed[at]
        self._is_listed[at] = True
        kinds[is_again] = REPEATED
        return kinds


def _units(
    batch: pa.RecordBatch,
    keys: UInt64[np.ndarray, "videos half"],
    fingerprints: UInt64[np.ndarray, "videos half"],
    is_work: Bool[np.ndarray, " videos"],
) -> pa.RecordBatch:
    rows = batch.filter(pa.array(is_work))
    columns = {
        "video_id": ids_of_keys(keys[is_work]),
        "fingerprint": ids_of_keys(fingerprints[is_work]),
    }
    arrays = [columns[name] if name in columns else rows[name] for name in UNIT_SCHEMA.names]
    return pa.RecordBatch.from_arrays(arrays, schema=UNIT_SCHEMA)
