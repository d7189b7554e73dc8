"""From a frame of any size to the tokenizer's size: one crop and one antialiased resize.

The same resize serves every decoder, so that tokens do not depend on which of them read a file.
Pillow's convolution is used: deterministic, antialiased, and light enough for a decoding child.
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
}


class PreprocessConfig(StrictConfig):
    """How frames reach the tokenizer's size.

    Attributes:
        resize: "short_side" scales until the frame just covers the target and crops what stands
            over, keeping the aspect ratio; "stretch" maps the whole frame, changing it.
        crop: Which part "short_side" keeps.
        interpolation: Kernel of the resize, widened when shrinking (antialiased).
    """

    resize: Literal["short_side", "stretch"] = "short_side"
    crop: Literal["center"] = "center"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"


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
            box=self._source_box(source_height_px, source_width_px),
        )
        return np.asarray(resized)

    def _source_box(
        self, source_height_px: int, source_width_px: int
    ) -> tuple[float, float, float, float]:
        """The part of the source that is kept: left, top, right, bottom in source pixels.

        Resizing a box needs one interpolation and never computes pixels that a later crop drops.
        """
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
