"""How a stored frame is turned and stretched to look as it is meant to be seen."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8
from PIL import Image

_MATRIX_VALUES = 9
# Outside these bounds a pixel aspect is damage, not an intention.
_MAX_PIXEL_ASPECT = 8


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to turn or mirror an image by right angles, applied in this order.

    Attributes:
        is_transposed: Rows become columns.
        is_flipped_x: Then left and right change places.
        is_flipped_y: Then top and bottom change places.
    """

    is_transposed: bool = False
    is_flipped_x: bool = False
    is_flipped_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> Orientation:
        """Reads FFmpeg's display matrix: nine 32-bit integers a b u c d v x y w, row-major.

        A pixel at (x, y) is shown at (a·x + c·y, b·x + d·y); other than right angles are
        rounded to the nearest one.
        """
        if len(matrix) < _MATRIX_VALUES * np.dtype(np.int32).itemsize:
            return cls()
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(is_flipped_x=a < 0, is_flipped_y=d < 0)
        return cls(is_transposed=True, is_flipped_x=c < 0, is_flipped_y=b < 0)

    @property
    def is_mirrored(self) -> bool:
        """Whether no turning alone shows the frame as it is meant."""
        return self.is_transposed ^ self.is_flipped_x ^ self.is_flipped_y

    def apply(
        self, frame: UInt8[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "shown_height shown_width 3"]:
        """The frame as it is shown (a view where nothing has to move)."""
        if self.is_transposed:
            frame = frame.swapaxes(0, 1)
        if self.is_flipped_x:
            frame = frame[:, ::-1]
        if self.is_flipped_y:
            frame = frame[::-1]
        return frame

    def shown_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height as shown, of a frame stored as `width_px` × `height_px`."""
        return (height_px, width_px) if self.is_transposed else (width_px, height_px)


UPRIGHT = Orientation()


def square_pixel_width(width_px: int, pixel_aspect: Fraction | None) -> int:
    """The width that shows a frame of non-square pixels undistorted at its own height."""
    if not pixel_aspect or not 1 / _MAX_PIXEL_ASPECT <= pixel_aspect <= _MAX_PIXEL_ASPECT:
        return width_px
    return max(1, round(width_px * pixel_aspect))


def with_square_pixels(
    frame: UInt8[np.ndarray, "height width 3"], pixel_aspect: Fraction | None
) -> UInt8[np.ndarray, "height square_width 3"]:
    """The frame at its `square_pixel_width`; the frame itself if its pixels are square."""
    height_px, width_px = frame.shape[:2]
    square_width_px = square_pixel_width(width_px, pixel_aspect)
    if square_width_px == width_px:
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((square_width_px, height_px), Image.Resampling.BICUBIC))
