"""What a dataset leaves nothing to do for: its videos, streamed, in 34 bytes each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from pipeline.dataset.key_index import KEY_COLUMNS, distinct, unpacked
from pipeline.dataset.video_table import VideoTable
from pipeline.errors import QuarantineReason
from pipeline.id_index import PACKED_ID, SortedIds, keys_of_packed, packed_ids, sorted_order

STATE_TOKENS = "tokens"
STATE_QUARANTINED = "quarantined"
STATE_TAKEN_DOWN = "taken_down"

_NAME = pa.dictionary(pa.int8(), pa.string())
FINISHED_SCHEMA = pa.schema(
    [
        ("video_id", PACKED_ID),
        ("video_fingerprint", PACKED_ID),
        ("state", _NAME),
        ("reason", _NAME),
    ]
)
"""Columns of a batch of `FinishedUnits`: ids are packed, and the fingerprint of what was taken down
before it was ever seen is null."""

_STATES = pa.array([STATE_TOKENS, STATE_QUARANTINED, STATE_TAKEN_DOWN])
_REASONS = pa.array([reason.value for reason in QuarantineReason])


class FinishedUnits:
    """What needs no work: video_id, video_fingerprint, state and reason of every video.

    `state` is "tokens", "quarantined" or "taken_down"; `reason` is the quarantine's, null for
    tokens. A video that was taken down needs no work at any fingerprint. Iterating reads the
    dataset and holds one data file's videos at a time; a video whose rows are in two files comes
    twice.

    Args:
        tokens: Streams the packed keys of the clip table.
        quarantined: Keys of the quarantine table, as text, with their reasons.
    """

    def __init__(self, tokens: Callable[[], Iterable[pa.Table]], quarantined: pa.Table) -> None:
        self._tokens = tokens
        self._quarantined = quarantined

    @classmethod
    def none(cls) -> FinishedUnits:
        """Those of a dataset that holds nothing."""
        names = (*KEY_COLUMNS, "reason")
        return cls(list, pa.table({name: pa.array([], pa.string()) for name in names}))

    @classmethod
    def taken_down_in(cls, quarantined: VideoTable) -> FinishedUnits:
        """What was taken down in a dataset, alone."""
        keys = quarantined.keys()
        is_down = pc.equal(keys["reason"], QuarantineReason.TAKEN_DOWN.value)
        return cls(list, keys.filter(is_down))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        quarantine = _Quarantine(self._quarantined)
        for keys in self._tokens():
            may_stay = quarantine.look_at(keys["video_id"])
            if not may_stay.all():
                keys = keys.filter(pa.array(may_stay))
            yield finished_batch(keys["video_id"], keys["video_fingerprint"], STATE_TOKENS)
        # A run may have been stopped between its two commits: tokens win over a quarantine.
        yield quarantine.batch(STATE_QUARANTINED, ~quarantine.is_down & ~quarantine.has_tokens)
        yield quarantine.batch(STATE_TAKEN_DOWN, quarantine.is_down)

    def to_table(self) -> pa.Table:
        """All of it, a row per video, ids as text; an unseen fingerprint is empty."""
        packed = pa.Table.from_batches(list(self), FINISHED_SCHEMA)
        names = [pa.field(name, pa.string()) for name in ("state", "reason")]
        text = unpacked(packed).cast(
            pa.schema([("video_id", pa.string()), ("video_fingerprint", pa.string()), *names])
        )
        return distinct(text)


class _Quarantine:
    """The rows of the quarantine, and which of their videos have tokens as well.

    Attributes:
        is_down: Whether each row is a takedown.
    """

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self._packed = packed_ids(rows["video_id"]).combine_chunks()
        self.is_down = np.asarray(pc.equal(rows["reason"], QuarantineReason.TAKEN_DOWN.value), bool)
        high, low = keys_of_packed(self._packed).T
        order = sorted_order(high, low)
        high, low = high[order], low[order]
        is_first = np.ones(len(order), bool)
        is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        self._videos = SortedIds(high[is_first], low[is_first])
        self._video_of_row = np.empty(len(order), np.int64)
        self._video_of_row[order] = np.cumsum(is_first) - 1
        self._has_tokens = np.zeros(len(self._videos), bool)
        self._is_video_down = np.zeros(len(self._videos), bool)
        self._is_video_down[self._video_of_row[self.is_down]] = True

    @property
    def has_tokens(self) -> Bool[np.ndarray, " rows"]:
        """Whether the video of each row was among those looked at."""
        return self._has_tokens[self._video_of_row]

    def look_at(self, video_ids: pa.ChunkedArray) -> Bool[np.ndarray, " videos"]:
        """Takes packed ids of videos with tokens; says which of them were not taken down."""
        positions = self._videos.positions(keys_of_packed(video_ids.combine_chunks()))
        at = positions[positions >= 0]
        self._has_tokens[at] = True
        may_stay = np.ones(len(positions), bool)
        may_stay[positions >= 0] = ~self._is_video_down[at]
        return may_stay

    def batch(self, state: str, is_chosen: Bool[np.ndarray, " rows"]) -> pa.RecordBatch:
        """Some of the rows."""
        rows = self._rows.filter(pa.array(is_chosen))
        fingerprints = packed_ids(rows["video_fingerprint"], allow_empty=True)
        ids = pa.chunked_array([self._packed.filter(pa.array(is_chosen))])
        return finished_batch(ids, fingerprints, state, rows["reason"])


def finished_batch(
    video_ids: pa.ChunkedArray,
    fingerprints: pa.ChunkedArray,
    state: str,
    reasons: pa.ChunkedArray | None = None,
) -> pa.RecordBatch:
    """A batch of videos in one state, from packed ids."""
    num_rows = len(video_ids)
    state_codes = np.full(num_rows, _STATES.index(state).as_py(), np.int8)
    if reasons is None:
        reason_codes = pa.nulls(num_rows, pa.int8())
    else:
        reason_codes = pc.index_in(reasons, value_set=_REASONS).combine_chunks().cast(pa.int8())
    columns = [
        video_ids.combine_chunks(),
        fingerprints.combine_chunks(),
        pa.DictionaryArray.from_arrays(pa.array(state_codes), _STATES),
        pa.DictionaryArray.from_arrays(reason_codes, _REASONS),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=FINISHED_SCHEMA)
