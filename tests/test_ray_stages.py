"""How work is dealt out to tasks; that it changes no token is tested with the engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.ray_stages import units_per_task
from pipeline.records import WorkUnit


def units(number: int, size_bytes: int) -> list[WorkUnit]:
    return [WorkUnit(f"video{i}", "file:///a", "print", size_bytes) for i in range(number)]


@pytest.mark.parametrize(
    ("number", "size_bytes", "expected"),
    [
        (6, 100_000, 1),  # fewer than there are tasks to be had
        (127, 100_000, 1),
        (640, 100_000, 10),
        (640, 2**24, 4),  # 64 MiB
        (640, 2**30, 1),
        (10**5, 100_000, 64),
        (640, 0, 1),  # of unknown size
        (0, 0, 1),
    ],
)
def test_short_videos_go_several_to_a_task(number: int, size_bytes: int, expected: int) -> None:
    assert units_per_task(units(number, size_bytes), num_processes=2) == expected


def test_parts_count_as_parts() -> None:
    parts = [replace(one, num_parts=8) for one in units(640, 2**27)]
    assert units_per_task(parts, num_processes=2) == 4
