"""Codecs, pixel formats and odd timelines: every frame of every file, at its time, by whom."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pipeline.decoding.interface import DecoderName
from pipeline.errors import RecordError
from tests import video_factory as factory
from tests.decoding_runs import ALL_DECODERS, opened, read_numbers

SVT = {"codec": "libsvtav1", "codec_options": {"preset": "6", "crf": "5"}}
VP9 = {"codec": "libvpx-vp9", "codec_options": {"cpu-used": "8"}}
X265 = {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}}


class Made(NamedTuple):
    """How a file is made, and which decoders beside PyAV read it."""

    options: dict[str, Any]
    others: str = "decord torchcodec"


FILES = {
    "h264.mp4": Made({}),
    "h264-10-bit.mp4": Made({"pixel_format": "yuv420p10le"}),
    "h264-audio.mp4": Made({"with_audio": True}),
    "h264-gray.mp4": Made({"pixel_format": "gray"}),
    "h264-422.mp4": Made({"pixel_format": "yuv422p"}),
    "h264-444.mp4": Made({"pixel_format": "yuv444p"}),
    "h264-444-10-bit.mp4": Made({"pixel_format": "yuv444p10le"}),
    "h264-odd.mp4": Made({"pixel_format": "yuv444p", "width_px": 99, "height_px": 65}),
    "h264-fragmented.mp4": Made({"muxer_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "h264.avi": Made({}, "decord"),
    "h264.ts": Made({}, ""),
    "hevc.mp4": Made(X265),
    "hevc-10-bit.mp4": Made({**X265, "pixel_format": "yuv420p10le"}),
    "hevc-444.mp4": Made({**X265, "pixel_format": "yuv444p"}),
    "vp8.webm": Made(
        {"codec": "libvpx", "codec_options": {"lag-in-frames": "16", "auto-alt-ref": "1"}}
    ),
    "vp9.webm": Made(VP9),
    "vp9-odd.webm": Made({**VP9, "width_px": 99, "height_px": 65}),
    "av1.webm": Made(SVT, "torchcodec"),
    "av1-10-bit.mp4": Made({**SVT, "pixel_format": "yuv420p10le"}, "torchcodec"),
    "mpeg2.mpg": Made({"codec": "mpeg2video"}, "decord"),
    "mpeg4.avi": Made({"codec": "mpeg4"}, "decord"),
    "mpeg4.mp4": Made({"codec": "mpeg4"}),
    "mjpeg.mov": Made({"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    "mjpeg-444.mov": Made({"codec": "mjpeg", "pixel_format": "yuvj444p"}),
    "prores.mov": Made({"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
    "prores-alpha.mov": Made({"codec": "prores_ks", "pixel_format": "yuva444p10le"}),
    "ffv1.mkv": Made({"codec": "ffv1"}),
    "ffv1-odd.mkv": Made({"codec": "ffv1", "width_px": 97, "height_px": 63}),
    "ffv1-gray-10-bit.mkv": Made({"codec": "ffv1", "pixel_format": "gray10le"}),
    "ffv1-16-bit.mkv": Made({"codec": "ffv1", "pixel_format": "yuv444p16le"}),
    "ffv1-rgb.mkv": Made({"codec": "ffv1", "pixel_format": "bgr0"}),
    "ffv1-tiny.mkv": Made({"codec": "ffv1", "width_px": 16, "height_px": 16}, "torchcodec"),
    "flv1.flv": Made({"codec": "flv"}),
    "wmv2.wmv": Made({"codec": "wmv2"}),
    "animation.gif": Made({"codec": "gif", "pixel_format": "rgb8"}, "torchcodec"),
}
MAX_MEAN_ERROR = 6.0
MAX_MEAN_ERRORS = {"animation.gif": 20.0}
FileOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> FileOf:
    """Makes a file of `FILES` once."""
    folder = tmp_path_factory.mktemp("codecs")

    def make(name: str) -> Path:
        options = FILES[name].options
        if not factory.has_encoder(options.get("codec", "libx264")):
            pytest.skip("this build of FFmpeg has no such encoder")
        path = folder / name
        return path if path.exists() else factory.make_video(path, **options)

    return make


@pytest.mark.parametrize("decoder", ALL_DECODERS)
@pytest.mark.parametrize("name", FILES)
def test_every_frame_at_its_time_or_none(file_of: FileOf, name: str, decoder: DecoderName) -> None:
    """A decoder may refuse a file that is not its own, but never gives other frames or times."""
    path = file_of(name)
    is_expected = decoder.startswith("pyav") or decoder in FILES[name].others
    try:
        info, times_s, numbers = read_numbers(path, decoder)
    except RecordError:
        assert not is_expected
        return
    options = FILES[name].options
    assert numbers == list(range(40))
    assert times_s == pytest.approx([number / 25 for number in range(41)], abs=0.002)
    size = (options.get("width_px", 96), options.get("height_px", 64))
    assert (info.width_px, info.height_px, info.num_frames) == (*size, 40)
    assert info.fps == pytest.approx(25, rel=0.01)
    assert info.decoder == decoder


@pytest.mark.parametrize("decoder", ALL_DECODERS)
@pytest.mark.parametrize("name", [name for name in FILES if "gray" not in name])
def test_colours_survive_the_pixel_format(file_of: FileOf, name: str, decoder: DecoderName) -> None:
    """Against the frame that was encoded: no swapped planes, wrong matrix or shifted depth."""
    if not decoder.startswith("pyav") and decoder not in FILES[name].others:
        pytest.skip("not read by this decoder")
    with opened(file_of(name), decoder) as video:
        ((_, frame),) = video.read_frames([7])
    height_px, width_px = frame.shape[:2]
    truth = factory.numbered_frame(7, width_px, height_px)
    error = np.abs(frame.astype(int) - truth).mean()
    assert error < MAX_MEAN_ERRORS.get(name, MAX_MEAN_ERROR)


@pytest.mark.parametrize("name", [name for name in FILES if "gray" in name])
def test_gray_stays_gray(file_of: FileOf, name: str) -> None:
    with opened(file_of(name)) as video:
        ((_, frame),) = video.read_frames([7])
    assert frame.shape == (64, 96, 3)
    assert np.abs(frame - frame[..., :1].astype(int)).max() <= 1


TIMES_S = [0.0, 0.1, 0.12, 0.5, 0.55, 2.0, 2.01]


@pytest.mark.parametrize("decoder", ALL_DECODERS)
@pytest.mark.parametrize(
    "name", ["h264.mp4", "h264.mkv", "h264.ts", "vp9.webm", "ffv1.mkv", "prores.mov"]
)
def test_variable_rate_comes_from_timestamps(
    tmp_path: Path, name: str, decoder: DecoderName
) -> None:
    options = {"vp9": VP9, "ffv1": {"codec": "ffv1"}, "prores": FILES["prores.mov"].options}
    made = options.get(name.partition(".")[0], {"codec_options": {"bf": "2"}})
    path = factory.make_video(tmp_path / name, num_frames=7, times_s=TIMES_S, **made)
    try:
        _, found_s, numbers = read_numbers(path, decoder)
    except RecordError:
        assert name == "h264.ts"
        assert decoder in ("decord", "torchcodec")
        return
    half_frame_s = min(np.diff(TIMES_S)) / 2
    assert found_s[:-1] == pytest.approx(TIMES_S, abs=half_frame_s)
    assert numbers == list(range(7))


BEFORE_ZERO = {"avoid_negative_ts": "disabled"}


@pytest.mark.parametrize("decoder", ALL_DECODERS)
@pytest.mark.parametrize(
    ("name", "first_s", "options"),
    [
        ("late.mkv", 3.0, {}),
        ("early.ts", -0.4, {"muxer_options": BEFORE_ZERO, "codec_options": {"bf": "0"}}),
        ("early.webm", -0.4, {"muxer_options": BEFORE_ZERO, "codec": "libvpx"}),
        # FFmpeg reads no times before zero from this one: the average rate tells them.
        ("early.mkv", -0.4, {"muxer_options": BEFORE_ZERO, "codec_options": {"bf": "0"}}),
    ],
)
def test_times_count_from_the_first_frame(
    tmp_path: Path, decoder: DecoderName, name: str, first_s: float, options: dict[str, Any]
) -> None:
    times_s = [first_s + number / 25 for number in range(30)]
    path = factory.make_video(tmp_path / name, num_frames=30, times_s=times_s, **options)
    try:
        _, found_s, numbers = read_numbers(path, decoder)
    except RecordError:
        assert decoder in ("decord", "torchcodec")
        return
    assert found_s == pytest.approx([number / 25 for number in range(31)], abs=0.002)
    assert numbers == list(range(30))


@pytest.mark.parametrize("decoder", ["pyav", "pyav_two_pass", "torchcodec"])
@pytest.mark.parametrize("num_b_frames", ["0", "3"])
def test_frames_hidden_by_an_edit_list_stay_hidden(
    tmp_path: Path, num_b_frames: str, decoder: DecoderName
) -> None:
    path = factory.make_video(tmp_path / "a.mp4", codec_options={"bf": num_b_frames})
    factory.hide_first_frames(path, 7, 25)
    info, times_s, numbers = read_numbers(path, decoder)
    assert numbers == list(range(7, 40))
    assert times_s == pytest.approx([number / 25 for number in range(34)], abs=0.001)
    assert info.num_frames == 33


def test_decord_is_not_believed_about_edit_lists(tmp_path: Path) -> None:
    path = factory.hide_first_frames(factory.make_video(tmp_path / "a.mp4"), 7, 25)
    with pytest.raises(RecordError, match="decord counts"):
        opened(path, "decord")


INTERLACED = {
    "h264.mp4": {"codec_options": {"x264-params": "tff=1", "crf": "1"}},
    "h264.ts": {"codec_options": {"x264-params": "tff=1:bframes=2", "crf": "1"}},
    "mpeg2.ts": {
        "codec": "mpeg2video",
        "codec_options": {"flags": "+ildct+ilme", "qmin": "1", "qmax": "2"},
    },
}


@pytest.mark.parametrize("name", INTERLACED)
def test_the_fields_of_an_interlaced_frame_stay_woven(tmp_path: Path, name: str) -> None:
    """One frame per pair of fields, each row as it was filmed: neither blended nor doubled."""
    fields = np.full((64, 96, 3), 50, np.uint8)
    fields[::2] = 200
    path = factory.make_video(tmp_path / name, frames=[fields] * 12, **INTERLACED[name])
    with opened(path) as video:
        assert video.info.num_frames == 12
        for _, frame in video.read_frames(range(12)):
            assert np.abs(frame[::2].astype(int) - 200).max() < 30
            assert np.abs(frame[1::2].astype(int) - 50).max() < 30


@pytest.mark.parametrize("matrix", [1, 5], ids=["bt709", "bt601"])
def test_colours_follow_the_matrix_of_the_file(tmp_path: Path, matrix: int) -> None:
    colours = [(200, 30, 60), (20, 180, 40), (40, 60, 220)]
    frames = [np.full((32, 32, 3), colour, np.uint8) for colour in colours]
    path = factory.make_video(
        tmp_path / "a.mp4", frames=frames, colorspace=matrix, codec_options={"crf": "1"}
    )
    with opened(path) as video:
        for (_, frame), colour in zip(video.read_frames(range(3)), colours, strict=True):
            assert np.abs(frame.astype(int) - colour).max() <= 4
