"""Work units as Arrow columns: a million of them are some 200 MB and not a million objects.

    units = UnitTable.from_units(...)
    for unit in units.slice(0, 100): ...

A `WorkUnit` exists only while somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from pipeline.records import ArchiveMember, InputFault, WorkUnit
from pipeline.sources.batches import LISTING_SCHEMA
from pipeline.transport import records_to_table

UNIT_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("fingerprint", pa.string()),
        ("size_bytes", pa.int64()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("member_offset_bytes", pa.int64()),
        LISTING_SCHEMA.field("fault"),
    ]
)
"""Columns of a `UnitTable`; the last two are null for a file of its own, and without a fault."""

_ROWS_AT_ONCE = 4096


class UnitTable:
    """A sequence of whole work units.

    Attributes:
        table: The units, one row each, in the columns of `UNIT_SCHEMA`.
    """

    def __init__(self, table: pa.Table) -> None:
        assert table.schema.equals(UNIT_SCHEMA), table.schema
        self.table = table

    @classmethod
    def from_units(cls, units: Iterable[WorkUnit]) -> UnitTable:
        """A table of `units`, none of which may be a part of a video."""
        return cls(pa.Table.from_pylist([_row(unit) for unit in units], schema=UNIT_SCHEMA))

    @property
    def attributes(self) -> list[str]:
        """Names of all attributes that any unit carries."""
        names: dict[str, None] = {}
        for chunk in self.table["attributes"].chunks:
            names |= dict.fromkeys(chunk.keys.unique().to_pylist())
        return list(names)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[WorkUnit]:
        for batch in self.table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from map(_unit, batch.to_pylist())

    def __repr__(self) -> str:
        return f"UnitTable({len(self)} units)"

    def slice(self, start: int, length: int) -> list[WorkUnit]:
        """The units from position `start` on, `length` of them or as many as there are."""
        return [_unit(row) for row in self.table.slice(start, length).to_pylist()]

    def tables(self, num_blocks: int) -> list[pa.Table]:
        """The units in at most `num_blocks` tables of equal size as `pipeline.transport` packs."""
        size = max(1, -(-len(self) // num_blocks))
        return [
            records_to_table(self.slice(start, size)) for start in range(0, len(self), size)
        ]  # fmt: skip


def _row(unit: WorkUnit) -> dict[str, Any]:
    assert unit.num_parts == 1, "a table holds whole videos"
    return {
        "video_id": unit.video_id,
        "uri": unit.uri,
        "fingerprint": unit.fingerprint,
        "size_bytes": unit.size_bytes,
        "attributes": list(unit.attributes.items()),
        "member_offset_bytes": None if unit.member is None else unit.member.offset_bytes,
        "fault": None if unit.fault is None else asdict(unit.fault),
    }


def _unit(row: dict[str, Any]) -> WorkUnit:
    offset_bytes = row.pop("member_offset_bytes")
    member = None if offset_bytes is None else ArchiveMember(offset_bytes, row["size_bytes"])
    fault = InputFault.from_fields(row["fault"])
    attributes = dict(row["attributes"])
    return WorkUnit(**(row | {"attributes": attributes, "member": member, "fault": fault}))
