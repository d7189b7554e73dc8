"""What is left to do: the listing minus what the dataset already holds.

Done before anything heavy starts, from ids and fingerprints alone, so that a second run of the
same command costs one listing and one small read. The listing passes by in batches; what stays in
memory are some numbers per video of the dataset, and the units to do.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, UInt8, UInt64

from pipeline.dataset.token_dataset import STATE_QUARANTINED, STATE_TAKEN_DOWN, STATE_TOKENS
from pipeline.errors import DatasetError, QuarantineReason
from pipeline.id_index import (
    IdIndex,
    first_occurrences,
    ids_of_keys,
    keys_of_digests,
    keys_of_ids,
)
from pipeline.records import ListedVideo, fingerprint_digest, video_digest
from pipeline.sources.batches import batches_of
from pipeline.unit_table import UNIT_SCHEMA, UnitTable

logger = logging.getLogger(__name__)

_LOG_EVERY = 1_000_000
_NEW, _CHANGED, _TOKENIZED, _QUARANTINED, _RETRIED, _TAKEN_DOWN, _REPEATED = range(7)
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
    finished: pa.Table,
    *,
    retry_quarantined: Collection[QuarantineReason] = (),
) -> Plan:
    """Compares a listing with a dataset.

    Of a video that is listed twice the first one counts, wherever the second one is.

    Args:
        listing: `pipeline.sources.list_batches(...)`.
        finished: `TokenDataset.finished_units()`: video_id, video_fingerprint, state, reason.
        retry_quarantined: Work again on unchanged videos that were quarantined for these reasons.

    Raises:
        DatasetError: `finished` holds ids that this pipeline did not make.
    """
    difference = _Difference(finished, retry_quarantined)
    for batch in listing:
        difference.add(batch)
    return difference.plan()


def plan_units(
    videos: Iterable[ListedVideo],
    finished: pa.Table,
    *,
    retry_quarantined: Collection[QuarantineReason] = (),
) -> tuple[UnitTable, PlanCounts]:
    """`plan` for a listing that is a stream of records: its units and counts."""
    planned = plan(batches_of(videos), finished, retry_quarantined=retry_quarantined)
    return planned.units, planned.counts


class _Difference:
    """The comparison, one batch of the listing after the other."""

    def __init__(self, finished: pa.Table, retried: Collection[QuarantineReason]) -> None:
        self._video_ids = finished["video_id"]
        self._index = IdIndex(_checked_keys(finished, "video_id"))
        self._fingerprints = _checked_keys(_with_any_fingerprint(finished), "video_fingerprint")
        self._kinds = _unchanged_kinds(finished, retried)
        self._is_listed = np.zeros(finished.num_rows, bool)
        self._totals = np.zeros(len(_IS_WORK), np.int64)
        self._work: list[pa.RecordBatch] = []
        self._new_keys: list[UInt64[np.ndarray, "keys half"]] = []

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
            self._work.append(_units(batch, keys, fingerprints, is_work))
            self._new_keys.append(keys[is_work])

    def plan(self) -> Plan:
        """What the batches so far come to."""
        units = pa.Table.from_batches(self._work, UNIT_SCHEMA)
        # A video that the dataset lacks may have come in two batches.
        keys = np.concatenate([np.empty((0, 2), np.uint64), *self._new_keys])
        is_first = first_occurrences(keys)
        num_late = len(keys) - int(is_first.sum())
        if num_late:
            units = units.filter(pa.array(is_first))
        is_removed = ~self._is_listed & (self._kinds != _TAKEN_DOWN)
        totals = self._totals.tolist()
        counts = PlanCounts(
            num_listed=sum(totals),
            num_repeated=totals[_REPEATED] + num_late,
            num_new=totals[_NEW] - num_late,
            num_changed=totals[_CHANGED],
            num_tokenized=totals[_TOKENIZED],
            num_quarantined=totals[_QUARANTINED] + totals[_RETRIED],
            num_taken_down=totals[_TAKEN_DOWN],
            num_removed=int(is_removed.sum()),
            num_finished=int((self._kinds != _TAKEN_DOWN).sum()),
        )
        return Plan(UnitTable(units), self._video_ids.filter(pa.array(is_removed)), counts)

    def _kinds_of(
        self,
        keys: UInt64[np.ndarray, "videos half"],
        fingerprints: UInt64[np.ndarray, "videos half"],
    ) -> Int64[np.ndarray, " videos"]:
        kinds = np.full(len(keys), _NEW)
        is_repeated = ~first_occurrences(keys)
        positions = self._index.positions(keys)
        known = np.flatnonzero(positions >= 0)
        at = positions[known]
        is_same = (self._fingerprints[at] == fingerprints[known]).all(axis=1)
        is_down = self._kinds[at] == _TAKEN_DOWN
        kinds[known] = np.where(is_same | is_down, self._kinds[at], _CHANGED)
        is_repeated[known] |= self._is_listed[at]
        self._is_listed[at] = True
        kinds[is_repeated] = _REPEATED
        return kinds


def _checked_keys(finished: pa.Table, name: str) -> UInt64[np.ndarray, "keys half"]:
    try:
        return keys_of_ids(finished[name])
    except ValueError as error:
        raise DatasetError(
            f"column {name} of the dataset: {error}; another program has written to the table: "
            "restore an earlier version of it"
        ) from None


def _with_any_fingerprint(finished: pa.Table) -> pa.Table:
    """What was taken down may never have been seen: its fingerprint is empty, and plays no part."""
    is_down = pc.equal(finished["state"], STATE_TAKEN_DOWN)
    fingerprints = pc.if_else(is_down, "0" * 32, finished["video_fingerprint"])
    place = finished.schema.get_field_index("video_fingerprint")
    return finished.set_column(place, "video_fingerprint", fingerprints)


def _unchanged_kinds(
    finished: pa.Table, retried: Collection[QuarantineReason]
) -> UInt8[np.ndarray, " videos"]:
    """What each finished video is, as long as it has not changed."""
    state = finished["state"]
    kinds = np.full(finished.num_rows, _TOKENIZED, np.uint8)
    kinds[_mask(pc.equal(state, STATE_QUARANTINED))] = _QUARANTINED
    kinds[_mask(pc.equal(state, STATE_TAKEN_DOWN))] = _TAKEN_DOWN
    reasons = pa.array([reason.value for reason in retried], pa.string())
    wanted = _mask(pc.is_in(finished["reason"], value_set=reasons))
    kinds[wanted & (kinds == _QUARANTINED)] = _RETRIED
    assert _mask(pc.equal(state, STATE_TOKENS)).sum() == (kinds == _TOKENIZED).sum()
    return kinds


def _mask(values: pa.ChunkedArray) -> Bool[np.ndarray, " rows"]:
    return np.asarray(values.to_numpy(), bool)


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
