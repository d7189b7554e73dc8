"""From a file to clips: the right frames, or the reason why there are none."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from pipeline.clips import ClipConfig
from pipeline.decoding.fallback import cut_clips
from pipeline.decoding.interface import DecodeConfig, DecoderName
from pipeline.decoding.stage import DecodeStage
from pipeline.errors import QuarantineReason
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import UnitEnd
from pipeline.storage import StorageConfig
from tests import video_factory as factory
from tests.decoding_runs import (
    ALL_DECODERS,
    CONFIG,
    GEOMETRY,
    opened,
    read_numbers,
    settings,
    stage_results,
    unit_of,
)


@pytest.mark.parametrize("decoder", ALL_DECODERS)
def test_only_the_frames_asked_for_and_again(tmp_path: Path, decoder: DecoderName) -> None:
    path = factory.make_video(tmp_path / "a.mp4")
    with opened(path, decoder) as video:
        for wanted in ([0], [3, 4, 17, 39], [39], []):
            got = [
                (index, factory.frame_number(frame)) for index, frame in video.read_frames(wanted)
            ]
            assert got == [(index, index) for index in wanted]


@pytest.mark.parametrize("width_px", [2, 8, 10, 16, 24, 48, 50, 72])
def test_narrow_rows_are_not_taken_for_channels(tmp_path: Path, width_px: int) -> None:
    """decord pads rows, and where the padded row divides by the width it adds channels."""
    path = factory.make_video(tmp_path / "a.mp4", width_px=width_px, height_px=48, num_frames=3)
    frames = {}
    for decoder in ("pyav", "decord"):
        with opened(path, decoder) as video:
            frames[decoder] = np.stack([frame for _, frame in video.read_frames(range(3))])
    assert frames["decord"].shape == (3, 48, width_px, 3)
    assert np.array_equal(frames["decord"], frames["pyav"])


def test_pictures_are_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    """A frame in a circle of references lives on: hundreds of full-size pictures at a time."""
    path = factory.make_video(tmp_path / "a.mp4", num_frames=60)

    def num_pictures() -> int:
        return sum(isinstance(it, VideoFrame) for it in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = num_pictures()
        with opened(path) as video:
            *_, during = (num_pictures() for _ in video.read_frames(range(60)))
    finally:
        gc.enable()
    assert during - before < 10


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


def test_a_picture_that_ends_early_is_not_filled_up(tmp_path: Path) -> None:
    """What a JPEG decoder cannot read it leaves as the memory was, other on every run."""
    sound = factory.make_video(tmp_path / "a.mov", codec="mjpeg", pixel_format="yuvj420p")
    path = tmp_path / "b.mov"
    with av.open(str(sound)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            copy = av.Packet(bytes(packet)[:-12] + b"\xff\xd9" if number == 20 else bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.duration, copy.stream = packet.duration, stream
            if packet.size:
                target.mux(copy)
    assert stage_results(sound)[1].quarantine is None
    _, end = stage_results(path)
    assert end.quarantine is not None
    assert end.quarantine.reason is QuarantineReason.UNDECODABLE


def test_sound_that_begins_on_the_way_is_passed_over(tmp_path: Path) -> None:
    """A transport stream may add streams at any place; the video goes on."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 96, 320, 3), np.uint8)
    content = b""
    for number, with_audio in enumerate((False, True, False)):
        frames = [factory.numbered_frame(24 * number + index, 320, 192) for index in range(24)]
        for frame, grain in zip(frames, noise, strict=True):
            if not with_audio:  # more bytes than are looked at to find the streams of a file
                frame[:48], frame[-48:] = grain[:48], grain[48:]
        part = factory.make_video(
            tmp_path / f"{number}.ts",
            frames=frames,
            times_s=[number + index / 24 for index in range(24)],
            with_audio=with_audio,
            gop_frames=1,
            codec_options={"bf": "0", "crf": "1"},
        )
        content += part.read_bytes()
    path = write(tmp_path / "joined.ts", content)
    with av.open(str(path)) as container, pytest.raises(IndexError):
        list(container.demux(video=0))
    for decoder in ("pyav", "pyav_two_pass"):
        assert read_numbers(path, decoder)[2] == list(range(72))


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
