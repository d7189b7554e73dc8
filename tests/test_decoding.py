"""Decoding real files, odd ones included: the right frames at the right times, or a reason."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.clips import ClipConfig
from pipeline.decoding.cutting import CutClip, CutSettings, open_decoder
from pipeline.decoding.fallback import cut_clips, cut_with_fallback
from pipeline.decoding.interface import DecodeConfig, DecoderName
from pipeline.decoding.orientation import Orientation
from pipeline.decoding.stage import DecodeStage
from pipeline.errors import QuarantineReason, RecordError
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import Clip, ClipWindow, UnitEnd, VideoInfo, WorkUnit
from pipeline.storage import StorageConfig, canonical_uri
from sweettok.geometry import ClipGeometry
from tests import video_factory as factory

CONFIG = DecodeConfig(isolation="none")
ALL_DECODERS = ("pyav", "pyav_two_pass", "decord")
GEOMETRY = ClipGeometry(num_frames=5, height_px=32, width_px=32)


def unit_of(path: Path) -> WorkUnit:
    return WorkUnit("video", canonical_uri(path), "fingerprint", path.stat().st_size)


def settings(decode: DecodeConfig = CONFIG, **clips) -> CutSettings:
    return CutSettings(decode, ClipConfig(**clips), PreprocessConfig(), GEOMETRY)


def stage_results(path: Path, decode: DecodeConfig = CONFIG) -> tuple[list[Clip], UnitEnd]:
    stage = DecodeStage(decode, ClipConfig(), PreprocessConfig(), GEOMETRY, StorageConfig())
    stage.setup()
    *clips, end = stage.process(unit_of(path))
    stage.close()
    return clips, end


def read_numbers(path: Path, decoder: DecoderName = "pyav") -> tuple[VideoInfo, list[float], list]:
    """What the decoder says, the frames' times, and the numbers written in the frames."""
    with open_decoder(decoder, str(path), CONFIG) as video:
        timeline = video.timeline()
        frames = list(video.read_frames(range(timeline.num_frames)))
        assert [index for index, _ in frames] == list(range(timeline.num_frames))
        numbers = [factory.frame_number(frame) for _, frame in frames]
        return video.info, [*timeline.frame_times_s.tolist(), timeline.end_s], numbers


ORDINARY = {
    "h264.mp4": {},
    "h264-10-bit.mp4": {"pixel_format": "yuv420p10le"},
    "h264-audio.mp4": {"with_audio": True},
    "h264.avi": {},
    "h264.ts": {},
    "fragmented.mp4": {"muxer_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "ffv1.mkv": {"codec": "ffv1"},
    "flv.flv": {"codec": "flv"},
    "wmv.wmv": {"codec": "wmv2"},
    "vp8.webm": {"codec": "libvpx", "codec_options": {"lag-in-frames": "16", "auto-alt-ref": "1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "codec_options": {"cpu-used": "8"}},
    "av1.webm": {"codec": "libsvtav1", "codec_options": {"preset": "11"}},
    "hevc.mp4": {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}},
    "animation.gif": {"codec": "gif", "pixel_format": "rgb8"},
}


@pytest.mark.parametrize("name", ORDINARY)
def test_every_frame_of_every_codec(tmp_path: Path, name: str) -> None:
    options = ORDINARY[name]
    if not factory.has_encoder(options.get("codec", "libx264")):
        pytest.skip("this build of FFmpeg has no such encoder")
    path = factory.make_video(tmp_path / name, **options)
    for decoder in ("pyav", "pyav_two_pass"):
        info, times_s, numbers = read_numbers(path, decoder)
        assert numbers == list(range(40))
        assert times_s == pytest.approx([number / 25 for number in range(41)], abs=0.002)
        assert (info.width_px, info.height_px, info.num_frames) == (96, 64, 40)
        assert info.fps == pytest.approx(25, rel=0.01)


@pytest.mark.parametrize("name", ["h264.mp4", "h264-audio.mp4", "mpeg4.avi", "vp9.webm"])
def test_decord_gives_the_same_frames(tmp_path: Path, name: str) -> None:
    path = factory.make_video(tmp_path / name, **ORDINARY[name])
    assert read_numbers(path, "decord")[1:] == read_numbers(path, "pyav")[1:]


@pytest.mark.parametrize("decoder", ALL_DECODERS)
def test_only_the_frames_asked_for_and_again(tmp_path: Path, decoder: DecoderName) -> None:
    path = factory.make_video(tmp_path / "a.mp4")
    with open_decoder(decoder, str(path), CONFIG) as video:
        for wanted in ([0], [3, 4, 17, 39], [39], []):
            got = [
                (index, factory.frame_number(frame)) for index, frame in video.read_frames(wanted)
            ]
            assert got == [(index, index) for index in wanted]


def test_variable_rate_comes_from_timestamps(tmp_path: Path) -> None:
    times_s = [0.0, 0.1, 0.12, 0.5, 0.55, 2.0, 2.01]
    path = factory.make_video(tmp_path / "vfr.mp4", num_frames=7, times_s=times_s)
    _, found_s, numbers = read_numbers(path)
    assert found_s[:-1] == pytest.approx(times_s, abs=0.001)
    assert numbers == list(range(7))


def test_a_late_start_counts_from_the_first_frame(tmp_path: Path) -> None:
    times_s = [3 + number / 25 for number in range(10)]
    path = factory.make_video(tmp_path / "late.mkv", num_frames=10, times_s=times_s)
    assert read_numbers(path)[1] == pytest.approx([number / 25 for number in range(11)], abs=0.002)


@pytest.mark.parametrize("num_b_frames", ["0", "3"])
def test_frames_hidden_by_an_edit_list_stay_hidden(tmp_path: Path, num_b_frames: str) -> None:
    path = factory.make_video(tmp_path / "a.mp4", codec_options={"bf": num_b_frames})
    factory.hide_first_frames(path, 7, 25)
    info, times_s, numbers = read_numbers(path)
    assert numbers == list(range(7, 40))
    assert times_s == pytest.approx([number / 25 for number in range(34)], abs=0.001)
    assert info.num_frames == 33
    with pytest.raises(RecordError, match="decord counts"):
        open_decoder("decord", str(path), CONFIG)


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


TOP, BOTTOM_LEFT = (255, 0, 0), (0, 255, 0)


@pytest.mark.parametrize(
    ("quarter_turns", "top_is", "green_corner"),
    [(0, "top", "bottom left"), (1, "right", "top left"), (2, "bottom", "top right"),
     (3, "left", "bottom right")],
)  # fmt: skip
@pytest.mark.parametrize("decoder", ALL_DECODERS)
def test_rotation(
    tmp_path: Path, decoder: DecoderName, quarter_turns: int, top_is: str, green_corner: str
) -> None:
    path = factory.rotate(factory.make_video(tmp_path / "a.mp4", num_frames=3), quarter_turns)
    with open_decoder(decoder, str(path), CONFIG) as video:
        (_, frame), *_ = video.read_frames([1])
        shape = (video.info.height_px, video.info.width_px, 3)
    assert frame.shape == shape == ((64, 96, 3) if quarter_turns % 2 == 0 else (96, 64, 3))
    middle_y, middle_x = shape[0] // 2, shape[1] // 2
    edges = {
        "top": frame[4, middle_x],
        "bottom": frame[-5, middle_x],
        "left": frame[middle_y, 4],
        "right": frame[middle_y, -5],
    }
    corners = {
        f"{vertical} {horizontal}": frame[y, x]
        for vertical, y in (("top", 4), ("bottom", -5))
        for horizontal, x in (("left", 4), ("right", -5))
    }
    assert np.abs(edges[top_is].astype(int) - TOP).max() < 40
    assert np.abs(corners[green_corner].astype(int) - BOTTOM_LEFT).max() < 40


def test_mirroring(tmp_path: Path) -> None:
    path = factory.make_video(tmp_path / "a.mp4", num_frames=3)
    with open_decoder("pyav", str(path), CONFIG) as video:
        (_, plain), *_ = video.read_frames([1])
    factory.rotate(path, 0, mirrored=True)
    with open_decoder("pyav", str(path), CONFIG) as video:
        (_, mirrored), *_ = video.read_frames([1])
    assert np.array_equal(mirrored, plain[:, ::-1])


def test_orientations_move_pixels_as_the_display_matrix_says() -> None:
    """Against the matrix itself, pixel by pixel: (x, y) is shown at (ax + cy, bx + dy)."""
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for a, b, c, d in [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1),
                       (0, 1, 1, 0), (0, 1, -1, 0), (0, -1, 1, 0), (0, -1, -1, 0)]:  # fmt: skip
        places = {(a * x + c * y, b * x + d * y): image[y, x] for y in range(2) for x in range(3)}
        left, top = min(x for x, _ in places), min(y for _, y in places)
        matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1], np.int32) << 16
        shown = Orientation.from_display_matrix(matrix.tobytes()).apply(image)
        assert shown.shape[:2] == ((2, 3) if a else (3, 2))
        for (x, y), pixel in places.items():
            assert (shown[y - top, x - left] == pixel).all()


@pytest.mark.parametrize("decoder", ALL_DECODERS)
def test_pixels_that_are_not_square(tmp_path: Path, decoder: DecoderName) -> None:
    path = factory.make_video(tmp_path / "a.mp4", pixel_aspect=Fraction(4, 3))
    info, _, numbers = read_numbers(path, decoder)
    assert (info.width_px, info.height_px) == (128, 64)
    assert numbers == list(range(40))


@pytest.mark.parametrize("matrix", [1, 5], ids=["bt709", "bt601"])
def test_colours_follow_the_matrix_of_the_file(tmp_path: Path, matrix: int) -> None:
    colours = [(200, 30, 60), (20, 180, 40), (40, 60, 220)]
    frames = [np.full((32, 32, 3), colour, np.uint8) for colour in colours]
    path = factory.make_video(
        tmp_path / "a.mp4", frames=frames, colorspace=matrix, codec_options={"crf": "1"}
    )
    with open_decoder("pyav", str(path), CONFIG) as video:
        for (_, frame), colour in zip(video.read_frames(range(3)), colours, strict=True):
            assert np.abs(frame.astype(int) - colour).max() <= 4


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def faulty_files(folder: Path) -> Iterator[tuple[Path, QuarantineReason]]:
    make, cut, reason = factory.make_video, factory.truncate, QuarantineReason
    yield write(folder / "empty.mp4", b""), reason.EMPTY
    yield write(folder / "text.mp4", b"this is a text\n" * 100), reason.NOT_A_VIDEO
    yield write(folder / "one.mp4", b"x"), reason.NOT_A_VIDEO
    yield factory.make_audio(folder / "audio.mp4"), reason.NO_VIDEO_STREAM
    front = {"muxer_options": {"movflags": "faststart"}}
    for share in (0.3, 0.6, 0.95):
        yield cut(make(folder / f"end{share}.mp4"), share), reason.TRUNCATED
        yield cut(make(folder / f"front{share}.mp4", **front), share), reason.TRUNCATED
        yield cut(make(folder / f"{share}.mkv"), share), reason.TRUNCATED
        yield cut(make(folder / f"{share}.flv", codec="flv"), share), reason.TRUNCATED
    yield cut(make(folder / "0.6.avi", codec="mpeg4"), 0.6), reason.TRUNCATED
    gif = {"codec": "gif", "pixel_format": "rgb8"}
    yield cut(make(folder / "0.9.gif", **gif), 0.9), reason.TRUNCATED
    large = {"width_px": 320, "height_px": 240}
    yield factory.damage(make(folder / "noise.mp4", **large), 0.4, 500), reason.UNDECODABLE
    yield factory.damage(make(folder / "noise.mkv", **large), 0.4, 500), reason.UNDECODABLE
    yield make(folder / "short.mp4", num_frames=3), reason.TOO_SHORT


def test_faulty_files_end_in_their_quarantine(tmp_path: Path) -> None:
    for path, reason in faulty_files(tmp_path):
        _, end = stage_results(path)
        assert end.quarantine is not None, path.name
        assert end.quarantine.reason is reason, (path.name, end.quarantine)
        assert end.num_clips == 0
        assert "\n" not in end.quarantine.message
        assert end.quarantine.stage == ("cut" if reason is QuarantineReason.TOO_SHORT else "decode")


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "picture.mp4"
    Image.fromarray(factory.numbered_frame(9)).save(path, format="PNG")
    assert read_numbers(path)[2] == [9]


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
    ],
    ids=["hls", "concat"],
)
def test_a_playlist_opens_no_other_file(tmp_path: Path, playlist: str) -> None:
    other = factory.make_video(tmp_path / "other.ts")
    path = write(tmp_path / "list.mp4", playlist.format(other).encode())
    clips, end = stage_results(path)
    assert clips == []
    assert end.quarantine is not None


def test_limits_are_checked_before_the_work(tmp_path: Path) -> None:
    path = factory.make_video(tmp_path / "a.mp4")
    for limit in ({"max_pixels_per_frame": 96 * 64 - 1}, {"max_file_bytes": 100}):
        _, end = stage_results(path, DecodeConfig(isolation="none", **limit))
        assert end.quarantine is not None
        assert end.quarantine.reason is QuarantineReason.TOO_LARGE
        assert next(iter(limit)) in end.quarantine.message
        assert end.quarantine.attempts == 1


def test_missing_and_forbidden_files(tmp_path: Path) -> None:
    path = factory.make_video(tmp_path / "a.mp4")
    unit = unit_of(path)
    stage = DecodeStage(CONFIG, ClipConfig(), PreprocessConfig(), GEOMETRY, StorageConfig())
    stage.setup()
    path.chmod(0)
    if not os.access(path, os.R_OK):
        (end,) = stage.process(unit)
        assert isinstance(end, UnitEnd)
        assert end.quarantine is not None
        assert end.quarantine.reason is QuarantineReason.PERMISSION
    path.unlink()
    (end,) = stage.process(unit)
    assert isinstance(end, UnitEnd)
    assert end.quarantine is not None
    assert end.quarantine.reason is QuarantineReason.NOT_FOUND
    assert (end.quarantine.stage, end.quarantine.error_class) == ("read", "FileNotFoundError")


def test_clips_carry_their_frames_and_source(tmp_path: Path) -> None:
    clips, end = stage_results(factory.make_video(tmp_path / "a.mp4", num_frames=12))
    assert end.num_clips == len(clips) == 2
    assert end.quarantine is None
    for clip in clips:
        assert clip.frames.shape == (5, 32, 32, 3)
        assert clip.frames.flags.c_contiguous
        assert (clip.source.width_px, clip.source.height_px) == (96, 64)
        assert clip.source.decoder == "pyav"
    assert clips[0].clip_id != clips[1].clip_id


def test_overlapping_clips_hold_the_same_frames(tmp_path: Path) -> None:
    path = factory.make_video(tmp_path / "a.mp4", num_frames=12)
    by_index: dict[int, np.ndarray] = {}
    clips = list(cut_clips(str(path), unit_of(path), settings(hop_frames=2)))
    assert len(clips) == 4
    for clip in clips:
        for index, frame in zip(clip.window.frame_indices, clip.frames, strict=True):
            assert np.array_equal(by_index.setdefault(index, frame), frame)
    assert sorted(by_index) == list(range(11))


class ScriptedCutter:
    """A cutter whose decoders fail where the script says; each clip's pixels hold its number."""

    def __init__(self, script: dict[DecoderName, tuple[int, QuarantineReason | None]]) -> None:
        self.script = script
        self.asked: list[DecoderName] = []

    def cut(
        self, decoder_name: DecoderName, path: str, after: ClipWindow | None = None
    ) -> Iterator[CutClip]:
        self.asked.append(decoder_name)
        assert path == "video.mp4"
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
        for cut in cut_with_fallback(cutter, ALL_DECODERS, "video.mp4"):
            numbers.append(cut.window.clip_index)
    except RecordError as error:
        return numbers, cutter.asked, error
    return numbers, cutter.asked, None


def test_the_next_decoder_goes_on_without_repeating_clips() -> None:
    undecodable, crash = QuarantineReason.UNDECODABLE, QuarantineReason.DECODER_CRASH
    numbers, asked, error = run_script(
        pyav=(2, undecodable), pyav_two_pass=(4, undecodable), decord=(6, None)
    )
    assert (numbers, asked, error) == ([0, 1, 2, 3, 4, 5], list(ALL_DECODERS), None)
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
    from pipeline.decoding.cutting import InProcessCutter

    with pytest.raises(RecordError, match="other frame times"):
        next(InProcessCutter(settings()).cut("pyav", str(path), other))
