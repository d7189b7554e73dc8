"""The decode task: tables of a bounded size, and one stage per process for as long as it fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipeline.decode_task import decode_units
from pipeline.records import Clip, ClipWindow, UnitEnd, VideoInfo, WorkUnit
from pipeline.transport import records_to_table, table_to_records

SOURCE = VideoInfo(64, 48, 25.0, None, None, "h264", "made up")
CLIP_SHAPE = (2, 8, 8, 3)
CLIP_BYTES = int(np.prod(CLIP_SHAPE))


class ReusingStage:
    """Gives five clips per unit out of one piece of memory, as a decoder with few slots may."""

    def __init__(self, events: list[str]) -> None:
        self._events = events
        self._frames = np.empty(CLIP_SHAPE, np.uint8)

    def setup(self) -> None:
        self._events.append("setup")

    def process(self, unit: WorkUnit) -> Iterator[Clip | UnitEnd]:
        for number in range(5):
            self._frames[:] = number
            yield Clip(unit, ClipWindow(number, (0, 1), 0.0, 1.0), SOURCE, self._frames)
        yield UnitEnd(unit, 5)

    def close(self) -> None:
        self._events.append("close")


@dataclass(frozen=True)
class Spec:
    name: str
    block_bytes: int
    events: list[str] = field(default_factory=list, repr=False)

    def stage(self) -> ReusingStage:
        return ReusingStage(self.events)


def units(count: int):
    return records_to_table([WorkUnit(f"video{n}", "file:///a", "print", 1) for n in range(count)])


@pytest.mark.parametrize(
    ("block_bytes", "rows"),
    [(1, [1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1]), (3 * CLIP_BYTES, [3, 4, 3, 2]), (2**30, [12])],
)
def test_clips_are_handed_on_in_tables_of_the_size_asked_for(
    block_bytes: int, rows: list[int]
) -> None:
    tables = list(decode_units(Spec("sizes", block_bytes), units(2)))
    assert [len(table) for table in tables] == rows
    records = [record for table in tables for record in table_to_records(table)]
    clips = [record for record in records if isinstance(record, Clip)]
    assert [clip.unit.video_id for clip in clips] == ["video0"] * 5 + ["video1"] * 5
    assert [(clip.frames.min(), clip.frames.max()) for clip in clips] == [
        (number, number) for number in [*range(5), *range(5)]
    ]
    assert [record.num_clips for record in records if isinstance(record, UnitEnd)] == [5, 5]


def test_a_stage_serves_all_tasks_of_a_process_that_see_the_same_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = Spec("devices", 2**20)
    for device in ("0", "0", "1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", device)
        list(decode_units(spec, units(1)))
    assert spec.events == ["setup", "close", "setup"]
    list(decode_units(Spec("others", 2**20), units(1)))
    assert spec.events == ["setup", "close", "setup", "close"]
