"""Records survive the way through Arrow, pixels without a copy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from pipeline.errors import QuarantineReason
from pipeline.records import (
    Clip,
    ClipWindow,
    Quarantine,
    TokenizedClip,
    UnitEnd,
    VideoInfo,
    WorkUnit,
)
from pipeline.transport import TablePacker, records_to_table, table_to_records

UNIT = WorkUnit("id", "file:///a b/ü'\".mp4", "print", 12, {"caption": 'a "quoted" line\n2'})
WINDOW = ClipWindow(3, (5, 6, 7, 7), 0.2, 0.32, 1)
SOURCE = VideoInfo(64, 48, 25.0, None, None, "h264", "pyav")


def test_every_kind_of_record_comes_back_equal() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    tokens = (np.array([0, 32767], np.int16), np.array([5], np.int16))
    quarantine = Quarantine(QuarantineReason.TRUNCATED, "decode", "OSError", "cut short", 2)
    records = [
        UNIT,
        Clip(UNIT, WINDOW, SOURCE, frames),
        TokenizedClip(UNIT, WINDOW, SOURCE, *tokens),
        UnitEnd(UNIT, 1),
        UnitEnd(UNIT, 0, quarantine),
    ]
    table = records_to_table(records)
    unit, clip, tokenized, end, failed = table_to_records(pa.concat_tables([table, table]).slice(5))
    assert (unit, end, failed) == (UNIT, records[3], records[4])
    assert failed.quarantine.reason is QuarantineReason.TRUNCATED
    assert (clip.unit, clip.window, clip.source) == (UNIT, WINDOW, SOURCE)
    assert np.array_equal(clip.frames, frames)
    assert clip.clip_id == records[1].clip_id == tokenized.clip_id
    assert np.array_equal(tokenized.spatial_tokens, tokens[0])
    assert np.array_equal(tokenized.temporal_tokens, tokens[1])


def test_images_have_no_temporal_tokens_and_no_records_make_an_empty_table() -> None:
    none = np.array([], np.int16)
    (image,) = table_to_records(
        records_to_table([TokenizedClip(UNIT, WINDOW, SOURCE, np.array([7], np.int16), none)])
    )
    assert image.spatial_tokens.tolist() == [7]
    assert image.temporal_tokens.tolist() == []
    assert list(table_to_records(records_to_table([]))) == []


def test_pixels_are_views_into_the_table() -> None:
    frames = np.zeros((4, 8, 6, 3), np.uint8)
    table = records_to_table([Clip(UNIT, WINDOW, SOURCE, frames)])
    (clip,) = table_to_records(table)
    payload = table.column("payload").chunk(0).buffers()[2]
    assert payload.address <= clip.frames.ctypes.data < payload.address + payload.size


def test_a_packer_needs_a_record_no_longer_once_it_was_added() -> None:
    """A decode task packs clips out of memory that the next clip overwrites."""
    frames = np.empty((4, 8, 6, 3), np.uint8)
    packer = TablePacker(3 * frames.nbytes)
    for number in range(3):
        frames[:] = number
        packer.add(Clip(UNIT, WINDOW, SOURCE, frames))
    table = packer.take()
    assert [clip.frames.max() for clip in table_to_records(table)] == [0, 1, 2]
    assert len(packer) == 0
    assert list(table_to_records(packer.take())) == []
    assert [clip.frames.min() for clip in table_to_records(table)] == [0, 1, 2]


def test_a_table_is_full_with_the_clip_that_reaches_its_size() -> None:
    clip = Clip(UNIT, WINDOW, SOURCE, np.zeros((4, 8, 6, 3), np.uint8))
    packer = TablePacker(clip.frames.nbytes + 1)
    packer.add(UnitEnd(UNIT, 0))
    packer.add(clip)
    assert not packer.is_full
    packer.add(clip)
    assert packer.is_full
    assert len(packer.take()) == 3
    assert not packer.is_full
    packer.add(UnitEnd(UNIT, 0))
    assert packer.take().nbytes < clip.frames.nbytes


def test_records_of_several_sizes_and_units_share_a_table() -> None:
    """Growing moves what waits; the unit is written anew where it changes."""
    units = [dataclasses.replace(UNIT, video_id=name) for name in "aba"]
    sizes = [(1, 2, 2, 3), (4, 64, 64, 3), (0, 8, 8, 3), (9, 64, 64, 3)]
    frames = [np.full(shape, number, np.uint8) for number, shape in enumerate(sizes)]
    records = [Clip(unit, WINDOW, SOURCE, it) for unit in units for it in frames]
    packer = TablePacker(100)
    for record in records:
        packer.add(record)
    found = list(table_to_records(packer.take()))
    assert [clip.unit for clip in found] == [record.unit for record in records]
    for clip, record in zip(found, records, strict=True):
        assert np.array_equal(clip.frames, record.frames)


def test_frames_that_do_not_lie_in_a_row_are_packed_all_the_same() -> None:
    frames = np.arange(4 * 8 * 6 * 3, dtype=np.uint8).reshape(4, 8, 6, 3)
    mirrored = Clip(UNIT, WINDOW, SOURCE, frames[:, ::-1, ::2])
    (clip,) = table_to_records(records_to_table([mirrored]))
    assert np.array_equal(clip.frames, frames[:, ::-1, ::2])
