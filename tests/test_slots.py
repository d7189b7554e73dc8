"""Clips in shared memory: none is overwritten while it is looked at, and nobody waits for ever."""

from __future__ import annotations

import gc
import mmap
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.clips import ClipConfig
from pipeline.decoding.cutting import CutClip, CutSettings, InProcessCutter
from pipeline.decoding.interface import DecodeConfig
from pipeline.decoding.isolation import IsolatedCutter
from pipeline.decoding.slots import LentSlots, SlotsToFill, memory_bytes
from pipeline.errors import RecordError
from pipeline.preprocessing import PreprocessConfig
from sweettok.geometry import ClipGeometry
from tests import video_factory as factory


def settings(clips_in_flight: int = 3, hop_frames: int | None = None) -> CutSettings:
    return CutSettings(
        DecodeConfig(clips_in_flight=clips_in_flight),
        ClipConfig(hop_frames=hop_frames),
        PreprocessConfig(),
        ClipGeometry(num_frames=5, height_px=32, width_px=32),
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.make_video(tmp_path_factory.mktemp("videos") / "a.mp4", num_frames=60)


def both_sides(cut: CutSettings) -> tuple[SlotsToFill, LentSlots]:
    memory = mmap.mmap(-1, memory_bytes(cut))
    return SlotsToFill(memory, cut), LentSlots(memory, cut)


def numbers_of(clips: list[CutClip]) -> list[list[int]]:
    return [[factory.frame_number(frame) for frame in clip.frames] for clip in clips]


@pytest.mark.parametrize("clips_in_flight", [1, 2, 4])
@pytest.mark.parametrize("hop_frames", [1, 2, None])
def test_clips_that_are_kept_stay_what_they_are(
    video: Path, clips_in_flight: int, hop_frames: int | None
) -> None:
    """All at once or one by one, of overlapping windows too, with few slots and with many."""
    cut = settings(clips_in_flight, hop_frames)
    expected = numbers_of(list(InProcessCutter(cut).cut("pyav", str(video))))
    cutter = IsolatedCutter(cut)
    kept = list(cutter.cut("pyav", str(video)))
    seen = [numbers_of([clip])[0] for clip in cutter.cut("pyav", str(video))]
    again = list(cutter.cut("pyav", str(video)))
    cutter.close()
    assert numbers_of(kept) == seen == numbers_of(again) == expected


@pytest.mark.parametrize(
    "part", [lambda it: it[1:2, ::2], memoryview, torch.from_numpy, lambda it: it.reshape(-1)[7:]]
)
def test_a_slot_goes_back_when_the_last_part_of_its_clip_is_gone(part) -> None:
    _, lent = both_sides(settings())
    kept = part(lent.clip(2))
    assert lent.take_returned() == []
    del kept
    gc.collect()
    assert lent.take_returned() == [2]
    assert lent.take_returned() == []


def test_a_consumer_that_keeps_many_gets_copies() -> None:
    slots, lent = both_sides(settings(clips_in_flight=3))
    clips = []
    for number in range(4):
        frames = slots.new_clip((5, 32, 32, 3))
        frames[:] = number
        slot = slots.filled(frames)
        clips.append(lent.clip(slot))
        for returned in lent.take_returned():
            slots.release(returned)
        assert slots.num_free >= 2
    assert [clip.max() for clip in clips] == [0, 1, 2, 3]
    del clips, frames
    assert sorted(lent.take_returned()) == [0, 1]


def test_the_last_free_slot_is_not_for_clips_that_only_begin() -> None:
    """Else windows that overlap could fill all slots while an older clip waits for one."""
    slots, _ = both_sides(settings(clips_in_flight=2))
    clips = [slots.new_clip((5, 32, 32, 3)) for _ in range(4)]
    assert slots.num_free == 1
    for number, frames in enumerate(clips):
        frames[:] = number
    assert [slots.filled(frames) for frames in clips[:3]] == [0, 1, 2]
    slots.release(0)
    assert slots.filled(clips[3]) == 0
    assert slots.num_free == 0


def test_slots_of_clips_that_never_end_come_free() -> None:
    slots, _ = both_sides(settings(clips_in_flight=3))
    slots.new_clip((5, 32, 32, 3))
    slots.new_clip((5, 32, 32, 3))
    slots.give_up_unfinished()
    assert slots.num_free == 4


def test_a_child_that_failed_in_the_middle_serves_on(video: Path, tmp_path: Path) -> None:
    """Again and again: no slot is lost by a file that ends inside a clip."""
    broken = factory.damage(Path(shutil.copy(video, tmp_path)), 0.4, 300)
    cutter = IsolatedCutter(settings(clips_in_flight=2))
    whole = numbers_of(list(cutter.cut("pyav", str(video))))
    pid = cutter.child_pid
    for _ in range(5):
        with pytest.raises(RecordError, match=r"frame|packet"):
            list(cutter.cut("pyav", str(broken)))
    assert numbers_of(list(cutter.cut("pyav", str(video)))) == whole
    assert cutter.child_pid == pid
    cutter.close()
