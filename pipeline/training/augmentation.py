"""Random views of stored frames: where a clip starts, which part it shows, whether it is mirrored.

A view is drawn from five uniform numbers, so that a whole batch is one array operation and the same
numbers give the same clips on every route.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pydantic
from jaxtyping import Bool, Float64, Int64, UInt8

from sweettok.geometry import ClipGeometry
from sweettok.strict_config import StrictConfig

NUM_DRAWS = 5  # frame stride, start, top, left, mirror
_PIXEL = np.dtype("V3")


class AugmentationConfig(StrictConfig):
    """How training clips vary from epoch to epoch.

    Attributes:
        random_start: A clip begins anywhere between its own grid position and the next one's.
        random_crop: Cut the clip from anywhere in the frame; otherwise from the middle, exactly as
            for tokenizing.
        crop_margin: With `random_crop`, frames are resized to cover so many times the clip's
            height and width, which leaves room to move also along their short side.
        horizontal_flip: Mirror every other clip, at random.
        max_frame_stride: Show every n-th stored frame, n drawn from 1 to this.
    """

    random_start: bool = True
    random_crop: bool = True
    crop_margin: float = pydantic.Field(default=1.125, ge=1, le=4)
    horizontal_flip: bool = True
    max_frame_stride: int = pydantic.Field(default=1, ge=1, le=64)

    def window_frames(self, num_frames: int, hop_frames: int) -> int:
        """Frames that must be at hand to cut any clip of one grid position."""
        reach = hop_frames - 1 if self.random_start else 0
        return (num_frames - 1) * self.max_frame_stride + 1 + reach


@dataclass(frozen=True)
class ClipViews:
    """What each clip of a batch shows of its stored frames.

    Attributes:
        starts: First frame of each clip.
        strides: Stored frames from one frame of the clip to the next.
        tops, lefts: Upper left corner of the crop in pixels.
        mirrored: Whether the clip is shown mirrored sideways.
    """

    starts: Int64[np.ndarray, " b"]
    strides: Int64[np.ndarray, " b"]
    tops: Int64[np.ndarray, " b"]
    lefts: Int64[np.ndarray, " b"]
    mirrored: Bool[np.ndarray, " b"]

    def num_real_frames(self, row: int, num_stored: int, num_frames: int) -> int:
        """How many of the clip's `num_frames` lie within the `num_stored` frames there are."""
        start, stride = int(self.starts[row]), int(self.strides[row])
        return min(num_frames, (num_stored - 1 - start) // stride + 1)


@dataclass(frozen=True)
class StoredClips:
    """The frames that each clip of a batch may be cut from.

    Attributes:
        grid_starts: Frame at which each clip's grid position lies.
        num_frames: Frames that there are, counted from frame 0.
        heights_px, widths_px: Size of the stored frames.
    """

    grid_starts: Int64[np.ndarray, " b"]
    num_frames: Int64[np.ndarray, " b"]
    heights_px: Int64[np.ndarray, " b"]
    widths_px: Int64[np.ndarray, " b"]


def random_views(
    stored: StoredClips,
    draws: Float64[np.ndarray, "b 5"],
    geometry: ClipGeometry,
    hop_frames: int,
    config: AugmentationConfig,
) -> ClipViews:
    """The views that uniform numbers in [0, 1) choose.

    No view leaves the frames that there are, unless not even the unaugmented clip fits: that one
    begins at its grid position and repeats the last frame.
    """
    stride_draw, start_draw, top_draw, left_draw, mirror_draw = draws.T
    steps = max(1, geometry.num_frames - 1)
    widest = (stored.num_frames - 1 - stored.grid_starts) // steps
    strides = 1 + _below(stride_draw, np.clip(widest, 1, config.max_frame_stride))
    starts = stored.grid_starts
    if config.random_start:
        last_start = stored.num_frames - 1 - strides * (geometry.num_frames - 1)
        room = np.clip(last_start - starts + 1, 1, hop_frames)
        starts = starts + _below(start_draw, room)
    tops, lefts = centre_corners(stored, geometry)
    if config.random_crop:
        tops = _below(top_draw, stored.heights_px - geometry.height_px + 1)
        lefts = _below(left_draw, stored.widths_px - geometry.width_px + 1)
    mirrored = (mirror_draw < 0.5) & config.horizontal_flip
    return ClipViews(starts, strides, tops, lefts, mirrored)


def centre_views(stored: StoredClips, geometry: ClipGeometry) -> ClipViews:
    """The views without augmentation: from the grid position on, the middle, not mirrored."""
    tops, lefts = centre_corners(stored, geometry)
    ones = np.ones_like(stored.grid_starts)
    return ClipViews(stored.grid_starts, ones, tops, lefts, np.zeros(len(ones), bool))


def centre_corners(
    stored: StoredClips, geometry: ClipGeometry
) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
    """Tops and lefts of the crops in the middle of the stored frames."""
    return (
        (stored.heights_px - geometry.height_px) // 2,
        (stored.widths_px - geometry.width_px) // 2,
    )


def copy_view(
    frames: UInt8[np.ndarray, "n stored_height stored_width 3"],
    first_frame: int,
    views: ClipViews,
    row: int,
    clip: UInt8[np.ndarray, "t h w 3"],
) -> None:
    """Copies what view `row` shows of `frames` into `clip`.

    `frames` begin with frame `first_frame`; frames of the view outside of them are left alone, so
    that a clip may be gathered from several pieces.
    """
    start, stride = int(views.starts[row]), int(views.strides[row])
    begin = max(0, -(-(first_frame - start) // stride))
    end = min(len(clip), -(-(first_frame + len(frames) - start) // stride))
    if begin >= end:
        return
    top, left = int(views.tops[row]), int(views.lefts[row])
    height, width = clip.shape[1:3]
    offset = start - first_frame
    part = frames[offset + begin * stride : offset + (end - 1) * stride + 1 : stride]
    part = part[:, top : top + height, left : left + width]
    if views.mirrored[row]:
        # Pixels rather than bytes are turned round: less than half the time.
        clip.view(_PIXEL)[begin:end] = part.view(_PIXEL)[:, :, ::-1]
    else:
        clip[begin:end] = part


def _below(
    draws: Float64[np.ndarray, " b"], limits: Int64[np.ndarray, " b"] | int
) -> Int64[np.ndarray, " b"]:
    """Uniform whole numbers in [0, limit) from uniform numbers in [0, 1)."""
    return np.minimum((draws * limits).astype(np.int64), np.asarray(limits) - 1)
