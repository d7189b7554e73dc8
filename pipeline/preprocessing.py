"""From a frame of any size to the tokenizer's size: one crop and one antialiased resize.

The same part of the frame is kept whichever decoder read the file. RGB is resized by Pillow's
convolution: deterministic, antialiased, and light enough for a decoding child. Where the decoder
gives the stored colour planes, `pipeline.decoding.plane_scaling` resizes those instead: less work,
and no full-size RGB at all.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sweettok.strict_config import StrictConfig

_INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "yuv_bicubic": Image.Resampling.BICUBIC,
}
_CHROMA_STEP_PX = 2  # the part that is kept begins with a whole sample of halved colour planes

SourceBox = tuple[float, float, float, float]
"""A part of a frame: left, top, right, bottom, in its pixels."""


class PreprocessConfig(StrictConfig):
    """How frames reach the tokenizer's size.

    Attributes:
        resize: "short_side" scales until the frame just covers the target and crops what stands
            over, keeping the aspect ratio; "stretch" maps the whole frame, changing it.
        crop: Which part "short_side" keeps.
        interpolation: Kernel of the resize, widened when shrinking (antialiased). "bicubic" and
            "bilinear" convert the whole frame to RGB and resize that. "yuv_bicubic" resizes the
            planes as they are stored and converts what is left, several times faster; the part
            that is kept is rounded to whole pixels. Frames that are not stored as YUV planes, or
            come from a decoder that gives RGB only, are resized as RGB.
    """

    resize: Literal["short_side", "stretch"] = "short_side"
    crop: Literal["center"] = "center"
    interpolation: Literal["bicubic", "bilinear", "yuv_bicubic"] = "yuv_bicubic"

    @property
    def resizes_planes(self) -> bool:
        """Whether stored planes are resized, where there are any."""
        return self.interpolation == "yuv_bicubic"


class FramePreprocessor:
    """Resizes and crops single frames to `height_px` × `width_px`."""

    def __init__(self, config: PreprocessConfig, height_px: int, width_px: int) -> None:
        self.config = config
        self.height_px = height_px
        self.width_px = width_px

    def __call__(
        self, frame: UInt8[np.ndarray, "source_height source_width 3"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The frame at the target size, RGB in [0, 255]; the input itself if it already fits."""
        source_height_px, source_width_px = frame.shape[:2]
        if (source_height_px, source_width_px) == (self.height_px, self.width_px):
            return frame
        resized = Image.fromarray(np.ascontiguousarray(frame)).resize(
            (self.width_px, self.height_px),
            _INTERPOLATIONS[self.config.interpolation],
            box=self.source_box(source_height_px, source_width_px),
        )
        return np.asarray(resized)

    def source_box(self, source_height_px: int, source_width_px: int) -> SourceBox:
        """The part of a source that is kept, in pixels of the source.

        Resizing a box needs one interpolation and never computes pixels that a later crop drops.
        """
        exact = self._exact_box(source_height_px, source_width_px)
        if not self.config.resizes_planes:
            return exact
        return whole_pixels(exact, source_height_px, source_width_px)

    def _exact_box(self, source_height_px: int, source_width_px: int) -> SourceBox:
        if self.config.resize == "stretch":
            return (0.0, 0.0, float(source_width_px), float(source_height_px))
        scale = min(source_height_px / self.height_px, source_width_px / self.width_px)
        kept_width_px = min(self.width_px * scale, float(source_width_px))
        kept_height_px = min(self.height_px * scale, float(source_height_px))
        left = (source_width_px - kept_width_px) / 2
        top = (source_height_px - kept_height_px) / 2
        return (
            left,
            top,
            min(left + kept_width_px, float(source_width_px)),
            min(top + kept_height_px, float(source_height_px)),
        )


def whole_pixels(box: SourceBox, height_px: int, width_px: int) -> SourceBox:
    """The nearest box of whole pixels that begins at even ones, inside a source of that size."""
    left, top, right, bottom = box
    kept_width_px, kept_height_px = (max(1, round(size)) for size in (right - left, bottom - top))
    start_x = _even_start(left, width_px - kept_width_px)
    start_y = _even_start(top, height_px - kept_height_px)
    return (start_x, start_y, start_x + kept_width_px, start_y + kept_height_px)


def _even_start(start_px: float, largest_px: int) -> int:
    step = _CHROMA_STEP_PX
    return min(round(start_px / step), largest_px // step) * step
