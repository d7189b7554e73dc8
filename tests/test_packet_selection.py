"""What nobody asked for is not decoded, and what is asked for has the same pixels all the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.decoding import pyav_decoder
from pipeline.decoding.packet_selection import chosen_packets
from tests import video_factory as factory
from tests.decoding_runs import opened

NUM_FRAMES = 240
X265 = {"codec": "libx265", "codec_options": {"x265-params": "log-level=none:bframes=3"}}
FILES: dict[str, dict[str, Any]] = {
    "h264.mp4": {"codec_options": {"bf": "3"}},
    "h264-open.mkv": {"codec_options": {"x264-params": "open-gop=1:bframes=3"}},
    "h264-refresh.mp4": {"codec_options": {"x264-params": "intra-refresh=1"}},
    "h264-interlaced.mp4": {"codec_options": {"x264-params": "tff=1:bframes=2"}},
    "hevc.mp4": X265,
    "vp9.webm": {"codec": "libvpx-vp9", "codec_options": {"cpu-used": "8"}},
    "mpeg4.mp4": {"codec": "mpeg4", "codec_options": {"bf": "2"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "codec_options": {"bf": "2"}},
    "ffv1.mkv": {"codec": "ffv1"},
}
CHOICES = {
    "every 2nd": range(0, NUM_FRAMES, 2),
    "every 16th": range(5, NUM_FRAMES, 16),
    "every 50th": range(0, NUM_FRAMES, 50),
    "far apart": [3, 59, 60, 61, 119, 180, 239],
    "late": [130, 131, 200, 238],
    "clips with gaps": [*range(5), *range(100, 105), *range(200, 205)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("selection")


def made(folder: Path, name: str) -> Path:
    path = folder / name
    options = FILES[name]
    if not factory.has_encoder(options.get("codec", "libx264")):
        pytest.skip("this build of FFmpeg has no such encoder")
    if path.exists():
        return path
    return factory.make_video(path, num_frames=NUM_FRAMES, gop_frames=20, **options)


@pytest.mark.parametrize("name", FILES)
def test_chosen_frames_have_the_pixels_of_a_whole_reading(folder: Path, name: str) -> None:
    path = made(folder, name)
    with opened(path) as video:
        whole = dict(video.read_frames(range(NUM_FRAMES)))
    for wanted in CHOICES.values():
        with opened(path) as video:
            found = dict(video.read_frames(wanted))
        assert list(found) == list(wanted)
        for index, frame in found.items():
            assert np.array_equal(frame, whole[index]), (name, index)


def sent_packets(path: Path, wanted: list[int], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many packets reach the decoder."""
    sent = 0

    def counted(*arguments: Any) -> Any:
        nonlocal sent
        for packet in chosen_packets(*arguments):
            sent += packet is not None
            yield packet

    monkeypatch.setattr(pyav_decoder, "chosen_packets", counted)
    with opened(path) as video:
        assert [index for index, _ in video.read_frames(wanted)] == wanted
    return sent


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "vp9.webm", "ffv1.mkv"])
def test_groups_without_a_wanted_frame_are_not_decoded(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twelve groups of 20, the two that are compared at the start and the two that are asked."""
    assert sent_packets(made(folder, name), [3, 119, 181], monkeypatch) <= 90


def test_a_codec_without_fresh_starts_is_decoded_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [3, 119, 181]
    assert sent_packets(made(folder, "mpeg4.mp4"), wanted, monkeypatch) >= 181
