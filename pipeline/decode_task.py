"""The decode task: what a worker process of the engine does with a few units.

On its own, so that a worker that only decodes loads neither torch nor the dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from pipeline.decoding.cutting import CutSettings
from pipeline.decoding.stage import DecodeStage
from pipeline.records import Clip, UnitEnd, WorkUnit
from pipeline.storage import StorageConfig
from pipeline.transport import records_to_table, table_to_records


class UnitDecoder(Protocol):
    """What turns units into clips, for the engine."""

    def setup(self) -> None:
        """Prepares the worker process."""

    def process(self, unit: WorkUnit) -> Iterator[Clip | UnitEnd]:
        """Yields the clips of `unit`, then its end."""

    def close(self) -> None:
        """Releases everything; safe to call twice."""


@dataclass(frozen=True)
class DecodeSpec:
    """Everything a decode task needs; small and picklable.

    Attributes:
        settings: What to cut from a file.
        storage: How to reach the files.
        table_bytes: Clips are handed on in tables of about this many bytes of pixels.
    """

    settings: CutSettings
    storage: StorageConfig
    table_bytes: int = 16 * 2**20

    def stage(self) -> UnitDecoder:
        """The stage, not set up yet."""
        parts = self.settings
        return DecodeStage(
            parts.decode, parts.clips, parts.preprocess, parts.geometry, self.storage
        )


def decode_units(spec: DecodeSpec, table: pa.Table) -> Iterator[pa.Table]:
    """A decode task: a table of units goes in, tables of their clips and ends come out."""
    stage = _decode_stage(spec)
    waiting: list[Clip | UnitEnd] = []
    waiting_bytes = 0
    for unit in table_to_records(table):
        assert isinstance(unit, WorkUnit)
        for record in stage.process(unit):
            waiting.append(record)
            waiting_bytes += record.frames.nbytes if isinstance(record, Clip) else 0
            if waiting_bytes >= spec.table_bytes:
                yield records_to_table(waiting)
                waiting, waiting_bytes = [], 0
    if waiting:
        yield records_to_table(waiting)


_STAGE_OF_THIS_PROCESS: dict[str, UnitDecoder] = {}


def _decode_stage(spec: DecodeSpec) -> UnitDecoder:
    """The stage of this worker process, kept between tasks with its decoding child."""
    key = repr(spec)
    if key not in _STAGE_OF_THIS_PROCESS:
        for stage in _STAGE_OF_THIS_PROCESS.values():
            stage.close()
        _STAGE_OF_THIS_PROCESS.clear()
        stage = spec.stage()
        stage.setup()
        _STAGE_OF_THIS_PROCESS[key] = stage
    return _STAGE_OF_THIS_PROCESS[key]
