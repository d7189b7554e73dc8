"""Records as Arrow tables: how they travel between processes, without pickling pixels.

One row per record: a `header` (JSON, a few hundred bytes: its kind and every small field) and a
`payload` (raw bytes: pixels or token ids). Packing copies a payload once, into memory that becomes
the table's; reading one back is a view into Arrow's memory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from pipeline.errors import QuarantineReason
from pipeline.records import (
    ArchiveMember,
    Clip,
    ClipWindow,
    InputFault,
    Quarantine,
    TokenizedClip,
    UnitEnd,
    VideoInfo,
    WorkUnit,
    plain_fields,
)

Record: TypeAlias = WorkUnit | Clip | TokenizedClip | UnitEnd

MESSAGE_SCHEMA = pa.schema([("header", pa.string()), ("payload", pa.large_binary())])


def records_to_table(records: Iterable[Record]) -> pa.Table:
    """Packs records of any kinds into one table, in their order."""
    packed = list(records)
    packer = TablePacker(sum(map(payload_bytes, packed)))
    for record in packed:
        packer.add(record)
    return packer.take()


def payload_bytes(record: Record) -> int:
    """Bytes of the arrays of a record."""
    if isinstance(record, Clip):
        return record.frames.nbytes
    if isinstance(record, TokenizedClip):
        return record.spatial_tokens.nbytes + record.temporal_tokens.nbytes
    return 0


class TablePacker:
    """Packs records one after the other: a record is needed no longer once it was added."""

    def __init__(self, table_bytes: int) -> None:
        """Takes how many bytes of arrays make a table full."""
        self._table_bytes = table_bytes
        self._unit: WorkUnit | None = None
        self._unit_text = ""
        self._headers: list[str] = []
        self._offsets = [0]
        self._end = 0
        self._payloads: pa.Buffer | None = None

    def __len__(self) -> int:
        """Records that wait to be taken."""
        return len(self._headers)

    @property
    def is_full(self) -> bool:
        """Whether the arrays that wait make a table."""
        return self._end >= self._table_bytes

    def add(self, record: Record) -> None:
        """Copies `record` behind those that wait."""
        self._headers.append(self._header(record))
        if num_bytes := payload_bytes(record):
            room = np.frombuffer(self._buffer_for(num_bytes), np.uint8)
            for array in _arrays_of(record):
                place = room[self._end : self._end + array.nbytes]
                place.view(array.dtype).reshape(array.shape)[...] = array
                self._end += array.nbytes
        self._offsets.append(self._end)

    def take(self) -> pa.Table:
        """All that waits, as a table; the next one begins empty."""
        payloads = pa.py_buffer(b"") if self._payloads is None else self._payloads[: self._end]
        offsets = pa.py_buffer(np.array(self._offsets, np.int64))
        columns = [
            pa.array(self._headers, pa.string()),
            pa.Array.from_buffers(pa.large_binary(), len(self), [None, offsets, payloads]),
        ]
        self._headers, self._offsets, self._end, self._payloads = [], [0], 0, None
        return pa.table(columns, schema=MESSAGE_SCHEMA)

    def _buffer_for(self, num_bytes: int) -> pa.Buffer:
        """The buffer with so much room behind what waits: records of one size never outgrow it."""
        if self._payloads is None or self._payloads.size < self._end + num_bytes:
            larger = pa.allocate_buffer(max(self._table_bytes, self._end) + num_bytes)
            if self._payloads is not None:
                np.frombuffer(larger, np.uint8)[: self._end] = np.frombuffer(
                    self._payloads, np.uint8, self._end
                )
            self._payloads = larger
        return self._payloads

    def _header(self, record: Record) -> str:
        fields = _fields_beside_unit(record)
        return f'{{"unit": {self._text_of(_unit_of(record))}, {_json(fields)[1:]}'

    def _text_of(self, unit: WorkUnit) -> str:
        """The unit, written once for all of its clips."""
        if unit is not self._unit:
            self._unit, self._unit_text = unit, _json(dataclasses.asdict(unit))
        return self._unit_text


def table_to_records(table: pa.Table) -> Iterator[Record]:
    """Unpacks what `records_to_table` packed; arrays are read-only views into the table."""
    headers = table.column("header").to_pylist()
    for header, payload in zip(headers, _payloads(table.column("payload")), strict=True):
        yield _unpack(json.loads(header), payload)


def _unit_of(record: Record) -> WorkUnit:
    return record if isinstance(record, WorkUnit) else record.unit


def _arrays_of(record: Record) -> tuple[np.ndarray, ...]:
    if isinstance(record, Clip):
        return (record.frames,)
    if isinstance(record, TokenizedClip):
        return (record.spatial_tokens, record.temporal_tokens)
    return ()


def _fields_beside_unit(record: Record) -> dict[str, Any]:
    if isinstance(record, WorkUnit):
        return {"kind": "unit"}
    if isinstance(record, UnitEnd):
        quarantine = record.quarantine and dataclasses.asdict(record.quarantine)
        return {
            "kind": "end",
            "clips": record.num_clips,
            "quarantine": quarantine,
            "decode_s": round(record.decode_s, 6),
        }
    fields = {
        "window": plain_fields(record.window),
        "source": plain_fields(record.source),
    }
    if isinstance(record, Clip):
        return {"kind": "clip", "shape": record.frames.shape, **fields}
    return {
        "kind": "tokens",
        "num_spatial": len(record.spatial_tokens),
        "psnr_db": record.psnr_db,
        "encode_s": round(record.encode_s, 6),
        **fields,
    }


def _payloads(column: pa.ChunkedArray) -> Iterator[Any]:
    """Buffers that are slices of the column's own memory (a scalar's would be copies)."""
    for chunk in column.chunks:
        _, offsets_buffer, values = chunk.buffers()
        if offsets_buffer is None:
            continue
        offsets = np.frombuffer(offsets_buffer, np.int64)[chunk.offset :][: len(chunk) + 1]
        for start, end in pairwise(offsets.tolist()):
            yield values.slice(start, end - start) if end > start else b""


def _unpack(header: dict[str, Any], payload: Any) -> Record:
    unit = _unit(header["unit"])
    if header["kind"] == "unit":
        return unit
    if header["kind"] == "end":
        quarantine = _quarantine(header["quarantine"])
        return UnitEnd(unit, header["clips"], quarantine, header["decode_s"])
    fields = dict(header["window"])
    fields["frame_indices"] = tuple(fields["frame_indices"])
    window, source = ClipWindow(**fields), VideoInfo(**header["source"])
    if header["kind"] == "clip":
        frames = np.frombuffer(payload, dtype=np.uint8).reshape(header["shape"])
        return Clip(unit, window, source, frames)
    ids = np.frombuffer(payload, dtype=np.int16)
    spatial, temporal = np.split(ids, [header["num_spatial"]])
    measured = (header["psnr_db"], header["encode_s"])
    return TokenizedClip(unit, window, source, spatial, temporal, *measured)


def _unit(fields: dict[str, Any]) -> WorkUnit:
    member = fields["member"]
    records = {
        "member": None if member is None else ArchiveMember(**member),
        "fault": InputFault.from_fields(fields["fault"]),
    }
    return WorkUnit(**(fields | records))


def _quarantine(fields: dict[str, Any] | None) -> Quarantine | None:
    if fields is None:
        return None
    return Quarantine(**(fields | {"reason": QuarantineReason(fields["reason"])}))


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False)
