"""Stored planes resized before they become RGB: beside the resize of RGB, and beside the truth."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.preprocessing import FramePreprocessor, PreprocessConfig
from tests import video_factory as factory
from tests.decoding_runs import opened

FFV1 = {"codec": "ffv1", "num_frames": 1}
# FFmpeg's plain conversion to RGB truncates, so that the way by RGB is darker by one level.
MAX_OFFSET = 1.5
MIN_PSNR_DB = 42.0  # around that offset; 50 dB on film


def smooth_frame(height_px: int, width_px: int) -> np.ndarray:
    """Coloured waves of several lengths: detail everywhere, but none finer than halved chroma."""
    y, x = np.mgrid[:height_px, :width_px]
    waves = [np.sin(x / 9 + y / 31), np.sin(x / 23 - y / 11), np.cos(x / 15 + y / 17)]
    return (128 + 80 * np.stack(waves, axis=-1)).round().astype(np.uint8)


def shaped(path: Path, interpolation: str, size: tuple[int, int], **config: Any) -> np.ndarray:
    """The first frame of the video, brought to height and width `size`."""
    preprocess = FramePreprocessor(PreprocessConfig(interpolation=interpolation, **config), *size)
    with opened(path) as video:
        ((_, frame),) = video.read_frames([0], preprocess)
    assert (frame.shape, frame.dtype) == ((*size, 3), np.uint8)
    return frame.astype(float)


def assert_alike(first: np.ndarray, second: np.ndarray, min_psnr_db: float = MIN_PSNR_DB) -> None:
    offset = (first - second).mean()
    assert abs(offset) <= MAX_OFFSET
    root_mean_square = np.sqrt(((first - second - offset) ** 2).mean())
    assert root_mean_square <= 255 * 10 ** (-min_psnr_db / 20)


@pytest.mark.parametrize(
    "options",
    [
        {"pixel_format": "yuv420p"},
        {"pixel_format": "yuv422p"},
        {"pixel_format": "yuv444p"},
        {"pixel_format": "yuva420p"},
        {"pixel_format": "yuv420p10le"},
        {"pixel_format": "yuv444p16le"},
        {"pixel_format": "gray"},
        {"pixel_format": "bgr0"},
        {"pixel_format": "yuv420p", "colorspace": 1},
        {"codec": "mjpeg", "pixel_format": "yuvj420p", "codec_options": {"qmax": "2"}},
        {"pixel_format": "yuv420p", "pixel_aspect": Fraction(4, 3)},
    ],
    ids=lambda options: "-".join(map(str, options.values())).replace("/", ":"),
)
@pytest.mark.parametrize("resize", ["short_side", "stretch"])
def test_both_ways_show_the_same(tmp_path: Path, options: dict[str, Any], resize: str) -> None:
    path = factory.make_video(
        tmp_path / "a.mkv", **{**FFV1, **options}, frames=[smooth_frame(180, 320)]
    )
    ways = [shaped(path, way, (64, 64), resize=resize) for way in ("bicubic", "yuv_bicubic")]
    # FFmpeg's conversion of other depths to full-size RGB takes its colour from halved columns.
    assert_alike(*ways, min_psnr_db=38.0)


@pytest.mark.parametrize("source", [(180, 320), (320, 180), (97, 63), (100, 187), (66, 240)])
@pytest.mark.parametrize("size", [(64, 64), (48, 96), (128, 72)])
def test_the_same_part_is_kept(
    tmp_path: Path, source: tuple[int, int], size: tuple[int, int]
) -> None:
    """A part that lies elsewhere shows at once in waves; one pixel may be lost to rounding."""
    path = factory.make_video(tmp_path / "a.mkv", **FFV1, frames=[smooth_frame(*source)])
    ways = [shaped(path, way, size) for way in ("bicubic", "yuv_bicubic")]
    assert_alike(*ways, min_psnr_db=28.0)


def test_it_is_nearer_to_the_truth_than_resized_rgb(tmp_path: Path) -> None:
    truth = smooth_frame(256, 256)
    path = factory.make_video(tmp_path / "a.mkv", **FFV1, frames=[truth], colorspace=1)
    exact = FramePreprocessor(PreprocessConfig(interpolation="bicubic"), 64, 64)(truth)
    errors = {
        way: np.abs(shaped(path, way, (64, 64)) - exact).mean()
        for way in ("bicubic", "yuv_bicubic")
    }
    assert errors["yuv_bicubic"] < 1.0
    assert errors["yuv_bicubic"] <= errors["bicubic"]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarter_turns", range(4))
def test_turned_videos_are_cropped_upright(
    tmp_path: Path, quarter_turns: int, mirrored: bool
) -> None:
    path = factory.make_video(
        tmp_path / "a.mp4", frames=[smooth_frame(96, 160)] * 2, codec_options={"crf": "1"}
    )
    factory.rotate(path, quarter_turns, mirrored=mirrored)
    ways = [shaped(path, way, (64, 40)) for way in ("bicubic", "yuv_bicubic")]
    assert_alike(*ways, min_psnr_db=32.0)


@pytest.mark.parametrize("matrix", [1, 5], ids=["bt709", "bt601"])
def test_colours_follow_the_matrix_of_the_file(tmp_path: Path, matrix: int) -> None:
    colours = [(200, 30, 60), (20, 180, 40), (40, 60, 220)]
    frames = [np.full((32, 48, 3), colour, np.uint8) for colour in colours]
    path = factory.make_video(
        tmp_path / "a.mp4", frames=frames, colorspace=matrix, codec_options={"crf": "1"}
    )
    preprocess = FramePreprocessor(PreprocessConfig(interpolation="yuv_bicubic"), 16, 16)
    with opened(path) as video:
        for (_, frame), colour in zip(
            video.read_frames(range(3), preprocess), colours, strict=True
        ):
            assert np.abs(frame.astype(int) - colour).max() <= 3


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    path = factory.make_video(tmp_path / "a.mkv", **FFV1, frames=[stripes])
    assert np.abs(shaped(path, "yuv_bicubic", (16, 16))[:, 2:-2] - 127).max() <= 5
