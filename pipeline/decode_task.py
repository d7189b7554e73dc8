"""The decode task: what a worker process of the engine does with a few units.

On its own, so that a worker that only decodes loads neither torch nor the dataset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from pipeline.decoding.cutting import CutSettings
from pipeline.decoding.stage import DecodeStage
from pipeline.records import Clip, UnitEnd, WorkUnit
from pipeline.storage import StorageConfig
from pipeline.transport import TablePacker, table_to_records

LEAST_CLIPS = 8
"""Every table is an object that the engine handles: hundreds a second would keep it busy."""

LARGEST_BLOCK_BYTES = 64 * 2**20


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
        table_bytes: Clips are handed on in tables of so many bytes of pixels, or a clip more; of
            `LEAST_CLIPS` clips where these are large.
    """

    settings: CutSettings
    storage: StorageConfig
    table_bytes: int = 4 * 2**20

    @property
    def block_bytes(self) -> int:
        """Pixels of a table, in bytes: fewer, larger ones for clips of several megabytes each."""
        several_clips = min(LEAST_CLIPS * self.settings.clip_bytes, LARGEST_BLOCK_BYTES)
        return max(self.table_bytes, several_clips)

    def stage(self) -> UnitDecoder:
        """The stage, not set up yet."""
        parts = self.settings
        return DecodeStage(
            parts.decode, parts.clips, parts.preprocess, parts.geometry, self.storage
        )


def decode_units(spec: DecodeSpec, table: pa.Table) -> Iterator[pa.Table]:
    """A decode task: a table of units goes in, tables of their clips and ends come out."""
    stage = _decode_stage(spec)
    packer = TablePacker(spec.block_bytes)
    for unit in table_to_records(table):
        assert isinstance(unit, WorkUnit)
        for record in stage.process(unit):
            packer.add(record)
            if packer.is_full:
                yield packer.take()
    if len(packer):
        yield packer.take()


_STAGE_OF_THIS_PROCESS: dict[tuple[str, str | None], UnitDecoder] = {}


def _decode_stage(spec: DecodeSpec) -> UnitDecoder:
    """The stage of this worker process, kept between tasks with its decoding child."""
    # A task with a share of a GPU may get another one than the last task in this process had.
    key = (repr(spec), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if key not in _STAGE_OF_THIS_PROCESS:
        for stage in _STAGE_OF_THIS_PROCESS.values():
            stage.close()
        _STAGE_OF_THIS_PROCESS.clear()
        stage = spec.stage()
        stage.setup()
        _STAGE_OF_THIS_PROCESS[key] = stage
    return _STAGE_OF_THIS_PROCESS[key]
