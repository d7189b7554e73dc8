"""Records as Arrow tables: how they travel between processes, without pickling pixels.

One row per record: a `header` (JSON, a few hundred bytes: its kind and every small field) and a
`payload` (raw bytes: pixels or token ids). Reading a payload back is a view into Arrow's memory.
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
)

Record: TypeAlias = WorkUnit | Clip | TokenizedClip | UnitEnd

MESSAGE_SCHEMA = pa.schema([("header", pa.string()), ("payload", pa.large_binary())])


def records_to_table(records: Iterable[Record]) -> pa.Table:
    """Packs records of any kinds into one table, in their order."""
    headers, payloads = [], []
    for record in records:
        header, payload = _pack(record)
        headers.append(json.dumps(header, ensure_ascii=False))
        payloads.append(payload)
    columns = [pa.array(headers, pa.string()), pa.array(payloads, pa.large_binary())]
    return pa.table(columns, schema=MESSAGE_SCHEMA)


def table_to_records(table: pa.Table) -> Iterator[Record]:
    """Unpacks what `records_to_table` packed; arrays are read-only views into the table."""
    headers = table.column("header").to_pylist()
    for header, payload in zip(headers, _payloads(table.column("payload")), strict=True):
        yield _unpack(json.loads(header), payload)


def _pack(record: Record) -> tuple[dict[str, Any], memoryview | None]:
    if isinstance(record, WorkUnit):
        return {"kind": "unit", "unit": dataclasses.asdict(record)}, None
    header: dict[str, Any] = {"unit": dataclasses.asdict(record.unit)}
    if isinstance(record, UnitEnd):
        quarantine = record.quarantine and dataclasses.asdict(record.quarantine)
        return header | {"kind": "end", "clips": record.num_clips, "quarantine": quarantine}, None
    header["window"] = dataclasses.asdict(record.window)
    header["source"] = dataclasses.asdict(record.source)
    if isinstance(record, Clip):
        header |= {"kind": "clip", "shape": record.frames.shape}
        return header, _bytes_of(record.frames)
    header |= {
        "kind": "tokens", "num_spatial": len(record.spatial_tokens), "psnr_db": record.psnr_db
    }  # fmt: skip
    return header, _bytes_of(np.concatenate([record.spatial_tokens, record.temporal_tokens]))


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
        return UnitEnd(unit, header["clips"], _quarantine(header["quarantine"]))
    fields = dict(header["window"])
    fields["frame_indices"] = tuple(fields["frame_indices"])
    window, source = ClipWindow(**fields), VideoInfo(**header["source"])
    if header["kind"] == "clip":
        frames = np.frombuffer(payload, dtype=np.uint8).reshape(header["shape"])
        return Clip(unit, window, source, frames)
    ids = np.frombuffer(payload, dtype=np.int16)
    spatial, temporal = np.split(ids, [header["num_spatial"]])
    return TokenizedClip(unit, window, source, spatial, temporal, header["psnr_db"])


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


def _bytes_of(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
