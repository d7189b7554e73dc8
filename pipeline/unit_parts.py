"""Splits long videos into parts that different workers may decode.

A part is a share of the video's clips, in the order of the clips. Every part plans the whole
video from its packets and then decodes its own clips only, so that the parts together give exactly
the clips of the whole. `pipeline.dataset.assembly` puts them together again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from pipeline.decoding.interface import PartBytes
from pipeline.records import WorkUnit
from pipeline.storage import is_local

# Every part reads the whole file: beyond this the reading would cost more than the decoding.
MAX_PARTS = 64

# What "auto" gives.
_MOST_PART_BYTES = 512 * 2**20
_LEAST_LOCAL_PART_BYTES = 4 * 2**20  # a minute of 720p: hundreds of times what its own start takes
_LEAST_REMOTE_PART_BYTES = 128 * 2**20  # every part downloads the file
# So many that all workers end together. Not more: a file that cannot be entered at a key frame is
# decoded from its start in every part, which must not take twice as long as decoding it once.
_PARTS_PER_WORKER = 4
_ENTERED_AT_KEY_FRAMES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})  # as a rule


def split_units(
    units: Sequence[WorkUnit], part_bytes: PartBytes, num_workers: int
) -> list[WorkUnit]:
    """The units in their order, those above `part_bytes` in parts of about that size.

    Args:
        units: Whole videos.
        part_bytes: Size in bytes above which a video is split; "auto" splits so that all workers
            have work to the end; None splits none.
        num_workers: How many decode at one time.
    """
    if part_bytes is None:
        return list(units)
    if part_bytes != "auto":
        return [part for unit in units for part in _parts_of(unit, part_bytes)]
    share = sum(unit.size_bytes for unit in units) // (_PARTS_PER_WORKER * max(1, num_workers))
    if num_workers < 2:
        share = _MOST_PART_BYTES
    return [part for unit in units for part in _parts_of(unit, _auto_part_bytes(unit, share))]


def _auto_part_bytes(unit: WorkUnit, share: int) -> int:
    """Size of the parts of `unit` if a worker's even piece of all the work is `share` bytes."""
    if os.path.splitext(unit.uri)[1].lower() not in _ENTERED_AT_KEY_FRAMES:
        return _MOST_PART_BYTES
    least = _LEAST_LOCAL_PART_BYTES if is_local(unit.uri) else _LEAST_REMOTE_PART_BYTES
    return min(max(share, least), _MOST_PART_BYTES)


def _parts_of(unit: WorkUnit, part_bytes: int) -> list[WorkUnit]:
    num_parts = min(MAX_PARTS, -(-unit.size_bytes // part_bytes))
    if num_parts <= 1 or unit.fault is not None:
        return [unit]
    return [replace(unit, part_index=index, num_parts=num_parts) for index in range(num_parts)]
