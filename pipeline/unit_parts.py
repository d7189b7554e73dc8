"""Splits long videos into parts that different workers may decode.

A part is a share of the video's clips, in the order of the clips. Every part plans the whole
video from its packets and then decodes its own clips only, so that the parts together give exactly
the clips of the whole. `pipeline.dataset.assembly` puts them together again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipeline.records import WorkUnit

# Every part reads the whole file: beyond this the reading would cost more than the decoding.
MAX_PARTS = 64


def split_units(units: Iterable[WorkUnit], part_bytes: int | None) -> list[WorkUnit]:
    """The units in their order, those above `part_bytes` in parts of about that size.

    Args:
        units: Whole videos.
        part_bytes: Size in bytes above which a video is split; None splits none.
    """
    if part_bytes is None:
        return list(units)
    return [part for unit in units for part in _parts_of(unit, part_bytes)]


def _parts_of(unit: WorkUnit, part_bytes: int) -> list[WorkUnit]:
    num_parts = min(MAX_PARTS, -(-unit.size_bytes // part_bytes))
    if num_parts <= 1 or unit.fault is not None:
        return [unit]
    return [replace(unit, part_index=index, num_parts=num_parts) for index in range(num_parts)]
