"""Videos in parts out of records in any order: each once, whole or not at all."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.assembly import CompletedUnit, UnitAssembler
from pipeline.errors import PipelineError, QuarantineReason
from pipeline.records import TokenizedClip, UnitEnd, WorkUnit
from tests.token_samples import SOURCE, quarantined, tokenized_clip, work_unit


def part_records(unit: WorkUnit, num_clips: int, num_parts: int) -> list[TokenizedClip | UnitEnd]:
    """All that arrives for a video of `num_clips` clips in `num_parts` parts, in order."""
    records: list[TokenizedClip | UnitEnd] = []
    for index in range(num_parts):
        part = replace(unit, part_index=index, num_parts=num_parts)
        clips = range(num_clips * index // num_parts, num_clips * (index + 1) // num_parts)
        records += [replace(tokenized_clip(unit, clip), unit=part) for clip in clips]
        records.append(UnitEnd(part, len(clips)))
    return records


def assembled(records: list[TokenizedClip | UnitEnd]) -> list[CompletedUnit]:
    assembler = UnitAssembler()
    completed = [done for record in records if (done := assembler.add(record)) is not None]
    assert assembler.incomplete() == []
    return completed


@given(st.data(), st.integers(1, 12), st.integers(1, 7))
def test_parts_in_any_order_and_twice_make_one_video(
    data: st.DataObject, num_clips: int, num_parts: int
) -> None:
    unit = work_unit("a")
    records = part_records(unit, num_clips, num_parts)
    again = data.draw(st.lists(st.sampled_from(records), max_size=10))
    (video,) = assembled(data.draw(st.permutations(records + again)))
    assert (video.unit, video.quarantine) == (unit, None)
    assert [clip.window.clip_index for clip in video.clips] == list(range(num_clips))
    assert [clip.clip_id for clip in video.clips] == [
        tokenized_clip(unit, index).clip_id for index in range(num_clips)
    ]


@given(st.data(), st.integers(2, 5))
def test_a_quarantined_part_quarantines_the_video_once(data: st.DataObject, num_parts: int) -> None:
    unit = work_unit("a")
    failing = data.draw(st.integers(0, num_parts - 1))
    end = quarantined(replace(unit, part_index=failing, num_parts=num_parts))
    records = [
        record
        for record in part_records(unit, 10, num_parts)
        if not (isinstance(record, UnitEnd) and record.unit.part_index == failing)
    ]
    again = data.draw(st.lists(st.sampled_from([*records, end]), max_size=10))
    (video,) = assembled(data.draw(st.permutations([*records, end, *again])))
    assert (video.unit, video.clips, video.quarantine) == (unit, (), end.quarantine)


def test_parts_that_saw_different_frames_are_not_put_together() -> None:
    """Two decoders that disagree about a faulty file, each right in its own part."""
    other = replace(SOURCE, num_frames=299, decoder="pyav_two_pass")
    for change in (
        lambda clip: replace(clip, source=other) if clip.window.clip_index == 5 else clip,
        lambda clip: replace(clip, window=replace(clip.window, clip_index=9)),
    ):
        records = part_records(work_unit("a"), 6, 2)
        changed = [
            change(r) if isinstance(r, TokenizedClip) and r.unit.part_index else r for r in records
        ]
        (video,) = assembled(changed)
        assert video.clips == ()
        assert video.quarantine is not None
        assert video.quarantine.reason is QuarantineReason.UNDECODABLE
        assert "decode.part_bytes" in video.quarantine.message


def test_what_is_missing_of_a_video_in_parts() -> None:
    unit = work_unit("a")
    records = part_records(unit, 6, 3)
    assembler = UnitAssembler()
    for record in records[:-1]:
        assert assembler.add(record) is None
    assert assembler.incomplete() == [f"{unit.uri}: 2 of its 3 parts ended"]
    assert assembler.add(records[-1]) is not None
    assembler = UnitAssembler()
    for record in records[1:]:
        assert assembler.add(record) is None
    assert assembler.incomplete() == [f"{unit.uri}: 5 of its 6 clips arrived"]


def test_parts_of_two_splits_do_not_mix() -> None:
    assembler = UnitAssembler()
    assembler.add(part_records(work_unit("a"), 6, 3)[0])
    with pytest.raises(PipelineError, match="split every video once"):
        assembler.add(part_records(work_unit("a"), 6, 2)[0])
