"""Listings as Arrow record batches: what planning reads, thousands of inputs at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

import pyarrow as pa

from pipeline.records import ArchiveMember, InputFault, ListedVideo

LISTING_SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("size_bytes", pa.int64()),
        ("version", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("member_offset_bytes", pa.int64()),
        ("fault", pa.struct([("reason", pa.string()), ("message", pa.string())])),
    ]
)
"""Columns of a listing; of the last two, the first is null for a file of its own, the second for
an input with which the listing found nothing wrong (see `ListedVideo`)."""

ROWS_PER_BATCH = 8192


def batches_of(videos: Iterable[ListedVideo]) -> Iterator[pa.RecordBatch]:
    """Packs a stream of records, in its order."""
    videos = iter(videos)
    while chunk := list(islice(videos, ROWS_PER_BATCH)):
        columns: list[list[Any]] = [
            [video.uri for video in chunk],
            [video.size_bytes for video in chunk],
            [video.version for video in chunk],
            [list(video.attributes.items()) for video in chunk],
            [None if video.member is None else video.member.offset_bytes for video in chunk],
            [None if video.fault is None else asdict(video.fault) for video in chunk],
        ]
        arrays = [
            pa.array(column, kind)
            for column, kind in zip(columns, LISTING_SCHEMA.types, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=LISTING_SCHEMA)


def videos_of(batch: pa.RecordBatch) -> Iterator[ListedVideo]:
    """Unpacks what `batches_of` packed."""
    columns = (batch[name].to_pylist() for name in LISTING_SCHEMA.names)
    for uri, size_bytes, version, attributes, offset_bytes, fault in zip(*columns, strict=True):
        member = None if offset_bytes is None else ArchiveMember(offset_bytes, size_bytes)
        yield ListedVideo(
            uri, size_bytes, version, dict(attributes), member, InputFault.from_fields(fault)
        )
