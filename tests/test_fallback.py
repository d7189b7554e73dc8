"""The decoders in their order: the next one goes on where one fails, and facts end the search."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.clips import ALL_CLIPS, ClipShare
from pipeline.decoding.cutting import CutClip, InProcessCutter
from pipeline.decoding.fallback import cut_clips, cut_with_fallback
from pipeline.decoding.interface import DecoderName
from pipeline.errors import QuarantineReason, RecordError
from pipeline.records import ClipWindow, VideoInfo
from tests import video_factory as factory
from tests.decoding_runs import read_numbers, settings, unit_of

ORDER: tuple[DecoderName, ...] = ("pyav", "pyav_two_pass", "decord")


class ScriptedCutter:
    """A cutter whose decoders fail where the script says; each clip's pixels hold its number."""

    def __init__(self, script: dict[DecoderName, tuple[int, QuarantineReason | None]]) -> None:
        self.script = script
        self.asked: list[DecoderName] = []

    def cut(
        self,
        decoder_name: DecoderName,
        path: str,
        after: ClipWindow | None = None,
        share: ClipShare = ALL_CLIPS,
    ) -> Iterator[CutClip]:
        self.asked.append(decoder_name)
        assert (path, share) == ("video.mp4", ALL_CLIPS)
        num_clips, reason = self.script[decoder_name]
        for number in range(after.clip_index + 1 if after else 0, num_clips):
            info = VideoInfo(8, 8, 25.0, 10, 0.4, "h264", decoder_name)
            window = ClipWindow(number, (number,), number / 25, (number + 1) / 25)
            yield CutClip(info, window, np.full((1, 8, 8, 3), number, np.uint8))
        if reason is not None:
            raise RecordError(reason, f"failed after {num_clips}")

    def close(self) -> None:
        pass


def run_script(**script) -> tuple[list[int], list[str], RecordError | None]:
    cutter = ScriptedCutter(script)
    numbers = []
    try:
        for cut in cut_with_fallback(cutter, ORDER, "video.mp4"):
            numbers.append(cut.window.clip_index)
    except RecordError as error:
        return numbers, cutter.asked, error
    return numbers, cutter.asked, None


def test_the_next_decoder_goes_on_without_repeating_clips() -> None:
    undecodable, crash = QuarantineReason.UNDECODABLE, QuarantineReason.DECODER_CRASH
    numbers, asked, error = run_script(
        pyav=(2, undecodable), pyav_two_pass=(4, undecodable), decord=(6, None)
    )
    assert (numbers, asked, error) == ([0, 1, 2, 3, 4, 5], list(ORDER), None)
    numbers, asked, error = run_script(pyav=(1, crash), decord=(3, None))
    assert (numbers, asked, error) == ([0, 1, 2], ["pyav", "decord"], None)


def test_facts_about_the_file_end_the_search() -> None:
    for reason in (QuarantineReason.TRUNCATED, QuarantineReason.NOT_A_VIDEO):
        numbers, asked, error = run_script(pyav=(2, reason), decord=(9, None))
        assert (numbers, asked) == ([0, 1], ["pyav"])
        assert error is not None
        assert error.reason is reason


def test_when_all_fail_the_first_reason_and_all_messages_remain() -> None:
    _, asked, error = run_script(
        pyav=(1, QuarantineReason.DEADLINE_EXCEEDED), decord=(1, QuarantineReason.UNDECODABLE)
    )
    assert asked == ["pyav", "decord"]
    assert error is not None
    assert error.reason is QuarantineReason.DEADLINE_EXCEEDED
    assert error.attempts == 2
    assert str(error) == "pyav: failed after 1; decord: failed after 1"


def test_another_decoder_must_agree_on_the_frames(tmp_path: Path) -> None:
    """Clips of one video never come from two different timelines."""
    path = factory.make_video(tmp_path / "a.mp4")
    other = ClipWindow(0, (0, 1, 2, 3, 5), 0.0, 0.24)
    with pytest.raises(RecordError, match="other frame times"):
        next(InProcessCutter(settings()).cut("pyav", str(path), other))


def test_a_stream_that_begins_inside_a_group_of_pictures(tmp_path: Path) -> None:
    """Its first packets give no frame; two passes find out, and the fallback gets there."""
    path = factory.make_video(tmp_path / "cut.ts", codec_options={"bf": "0"})
    content = path.read_bytes()
    start = len(content) // 188 // 4 * 188
    path.write_bytes(content[: 3 * 188] + content[start:])
    with pytest.raises(RecordError, match="packets announce"):
        read_numbers(path, "pyav")
    clips = list(cut_clips(str(path), unit_of(path), settings()))
    assert {clip.source.decoder for clip in clips} == {"pyav_two_pass"}
    info, _, numbers = read_numbers(path, "pyav_two_pass")
    assert numbers == list(range(40 - info.num_frames, 40))
    assert 0 < info.num_frames < 40
