"""From any frame size to the tokenizer's: geometry, antialiasing, and the same result always."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.preprocessing import FramePreprocessor, PreprocessConfig


def marked_frame(height_px: int, width_px: int) -> np.ndarray:
    """Red grows from left to right, green from top to bottom."""
    frame = np.zeros((height_px, width_px, 3), np.uint8)
    frame[..., 0] = np.linspace(0, 255, width_px).round()
    frame[..., 1] = np.linspace(0, 255, height_px).round()[:, None]
    return frame


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["short_side", "stretch"]),
)
def test_any_size_becomes_the_target_size(
    source_height: int, source_width: int, height: int, width: int, resize: str
) -> None:
    frame = np.full((source_height, source_width, 3), (10, 100, 200), np.uint8)
    result = FramePreprocessor(PreprocessConfig(resize=resize), height, width)(frame)
    assert (result.shape, result.dtype) == ((height, width, 3), np.uint8)
    assert (result == (10, 100, 200)).all()


def test_short_side_keeps_the_middle_of_the_long_side() -> None:
    frame = np.zeros((40, 120, 3), np.uint8)
    frame[:, 40:80] = 255
    result = FramePreprocessor(PreprocessConfig(), 20, 20)(frame)
    assert (result[:, 2:-2] == 255).all()
    tall = FramePreprocessor(PreprocessConfig(), 20, 20)(frame.swapaxes(0, 1))
    assert np.array_equal(tall, result.swapaxes(0, 1))


def test_stretch_keeps_everything() -> None:
    result = FramePreprocessor(PreprocessConfig(resize="stretch"), 32, 32)(marked_frame(64, 256))
    assert result[0, 0, 0] < 10
    assert result[0, -1, 0] > 245
    assert result[-1, 0, 1] > 245


def test_the_right_size_passes_untouched() -> None:
    frame = marked_frame(24, 32)
    assert np.array_equal(FramePreprocessor(PreprocessConfig(), 24, 32)(frame), frame)


def test_turned_views_are_resized_like_copies() -> None:
    turned = marked_frame(60, 90)[:, ::-1].swapaxes(0, 1)
    preprocess = FramePreprocessor(PreprocessConfig(), 16, 24)
    assert np.array_equal(preprocess(turned), preprocess(turned.copy()))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_shrinking_is_antialiased(interpolation: str) -> None:
    """One-pixel stripes become even grey; picking pixels would leave stripes or one colour."""
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    config = PreprocessConfig(interpolation=interpolation)
    result = FramePreprocessor(config, 16, 16)(stripes)
    assert np.abs(result[:, 2:-2].astype(int) - 127).max() <= 4


def test_enlarging_a_crop_reads_only_pixels_inside_it() -> None:
    """The box is in source pixels; a rounding slip would let the black border shine through."""
    frame = np.zeros((33, 65, 3), np.uint8)
    frame[:, 16:49] = 200
    result = FramePreprocessor(PreprocessConfig(), 66, 66)(frame)
    assert (result[:, 4:-4] == 200).all()
