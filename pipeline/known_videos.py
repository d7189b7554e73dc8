"""The videos of a dataset as planning looks them up: 33 bytes each, sorted by id."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, UInt8, UInt64

from pipeline.dataset.finished_units import STATE_QUARANTINED, STATE_TAKEN_DOWN
from pipeline.errors import QuarantineReason
from pipeline.id_index import GrowingArray, KeyColumns, SortedIds, keys_of_packed, sorted_order

NEW, CHANGED, TOKENIZED, QUARANTINED, RETRIED, TAKEN_DOWN, REPEATED = range(7)
"""What a listed video is, beside what the dataset knows."""


class KnownVideos:
    """What a dataset knows of its videos.

    Attributes:
        ids: Their ids.
        kinds: What each is as long as it has not changed: TOKENIZED, QUARANTINED, RETRIED or
            TAKEN_DOWN.
    """

    def __init__(
        self,
        ids: SortedIds,
        fingerprints: tuple[UInt64[np.ndarray, " videos"], UInt64[np.ndarray, " videos"]],
        kinds: UInt8[np.ndarray, " videos"],
    ) -> None:
        self.ids = ids
        self.kinds = kinds
        self._fingerprints = fingerprints

    @classmethod
    def read(
        cls, finished: Iterable[pa.RecordBatch], retried: Collection[QuarantineReason]
    ) -> KnownVideos:
        """Sorts what a dataset has finished; of a video that comes twice the last one counts.

        Args:
            finished: Batches of `pipeline.dataset.finished_units.FINISHED_SCHEMA`.
            retried: Reasons for which a quarantined video is worked on again.
        """
        ids, fingerprints, all_kinds = KeyColumns(), KeyColumns(), GrowingArray(np.uint8)
        for batch in finished:
            ids.add(keys_of_packed(batch["video_id"]))
            fingerprints.add(keys_of_packed(batch["video_fingerprint"]))
            all_kinds.add(_kinds(batch, retried))
        high, low = ids.take()
        order = sorted_order(high, low)
        # One column after the other: the memory holds little more than all of them once.
        high = high[order]
        low = low[order]
        is_last = np.ones(len(high), bool)
        is_last[:-1] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        if not is_last.all():
            order, high, low = order[is_last], high[is_last], low[is_last]
        first, second = fingerprints.take()
        first = first[order]
        second = second[order]
        return cls(SortedIds(high, low), (first, second), all_kinds.take()[order])

    def __len__(self) -> int:
        return len(self.ids)

    def have_fingerprints(
        self, at: Int64[np.ndarray, " wanted"], fingerprints: UInt64[np.ndarray, "wanted half"]
    ) -> Bool[np.ndarray, " wanted"]:
        """Whether the videos at some positions are in these states."""
        first, second = self._fingerprints
        return (first[at] == fingerprints[:, 0]) & (second[at] == fingerprints[:, 1])


def _kinds(
    batch: pa.RecordBatch, retried: Collection[QuarantineReason]
) -> UInt8[np.ndarray, " videos"]:
    kinds = np.full(batch.num_rows, TOKENIZED, np.uint8)
    states = batch["state"].cast(pa.string())
    is_quarantined = np.asarray(pc.equal(states, STATE_QUARANTINED), bool)
    reasons = pa.array([reason.value for reason in retried], pa.string())
    is_wanted = np.asarray(pc.is_in(batch["reason"].cast(pa.string()), value_set=reasons), bool)
    kinds[is_quarantined] = np.where(is_wanted, RETRIED, QUARANTINED)[is_quarantined]
    kinds[np.asarray(pc.equal(states, STATE_TAKEN_DOWN), bool)] = TAKEN_DOWN
    return kinds
