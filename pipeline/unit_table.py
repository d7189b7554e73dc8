"""Work units as Arrow columns: a million of them are some 200 MB and not a million objects.

    units = UnitTable.from_units(...)
    for unit in units.slice(0, 100): ...

A `WorkUnit` exists only while somebody looks at it. Units that a `UnitWriter` was given lie in a
file that the process maps: what was looked at is memory that the system may take back.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from pipeline.errors import PipelineError
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
_ROWS_IN_MEMORY = 50_000


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


class UnitWriter:
    """Gathers units in a nameless file of the local disk, beyond the first few thousand.

    The file is in the directory for temporary files (TMPDIR) and ends with the table.
    """

    def __init__(self) -> None:
        self._few: list[pa.RecordBatch] = []
        self._num_few = 0
        self._spill: _Spill | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes units in the columns of `UNIT_SCHEMA`.

        Raises:
            PipelineError: The disk has no room.
        """
        if self._spill is not None:
            self._spill.write(batch)
            return
        self._few.append(batch)
        self._num_few += batch.num_rows
        if self._num_few > _ROWS_IN_MEMORY:
            self._spill = _Spill()
            for waiting in self._few:
                self._spill.write(waiting)
            self._few.clear()

    def table(self, without: Bool[np.ndarray, " units"] | None = None) -> UnitTable:
        """All units in their order; ends the writing.

        Args:
            without: Which of them to leave out.

        Raises:
            PipelineError: The disk has no room.
        """
        if self._spill is None:
            table = pa.Table.from_batches(self._few, UNIT_SCHEMA)
        else:
            table = self._spill.table()
        if without is None:
            return UnitTable(table)
        others = UnitWriter()
        start = 0
        for batch in table.to_batches():
            mask = without[start : start + batch.num_rows]
            others.add(batch.filter(pa.array(~mask)))
            start += batch.num_rows
        return others.table()


class _Spill:
    """Batches in an Arrow file that has no name any more."""

    def __init__(self) -> None:
        with _disk_errors():
            self._file = tempfile.TemporaryFile(prefix="units-")  # noqa: SIM115 (until `table`)
        self._writer = pa.ipc.new_file(self._file, UNIT_SCHEMA)

    def write(self, batch: pa.RecordBatch) -> None:
        with _disk_errors():
            self._writer.write_batch(batch)

    def table(self) -> pa.Table:
        with _disk_errors():
            self._writer.close()
            self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        return pa.ipc.open_file(pa.py_buffer(mapped)).read_all()


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PipelineError(
            f"the list of units does not fit into {tempfile.gettempdir()} ({error}); it takes some "
            "250 bytes a video: make room there, or name another directory in TMPDIR"
        ) from None


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
