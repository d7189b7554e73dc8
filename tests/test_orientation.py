"""Frames come out upright and undistorted, whatever the container asks for."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.decoding.interface import DecoderName
from pipeline.decoding.orientation import Orientation
from pipeline.errors import RecordError
from tests import video_factory as factory
from tests.decoding_runs import ALL_DECODERS, opened, read_numbers

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
    with opened(path, decoder) as video:
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


@pytest.mark.parametrize("quarter_turns", range(4))
def test_mirrored_videos_are_left_to_the_decoder_that_knows_them(
    tmp_path: Path, quarter_turns: int
) -> None:
    path = factory.make_video(tmp_path / "a.mp4", num_frames=3)
    factory.rotate(path, quarter_turns, mirrored=True)
    for decoder in ("decord", "torchcodec"):
        with pytest.raises(RecordError, match="mirrored"):
            opened(path, decoder)


def test_mirroring(tmp_path: Path) -> None:
    path = factory.make_video(tmp_path / "a.mp4", num_frames=3)
    with opened(path) as video:
        (_, plain), *_ = video.read_frames([1])
    factory.rotate(path, 0, mirrored=True)
    with opened(path) as video:
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
