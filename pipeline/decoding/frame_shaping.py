"""From a decoded frame of FFmpeg's to upright RGB of the size that is asked for."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import numpy as np
from av.buffer import Buffer
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from pipeline.decoding.interface import DecodeConfig, DecodeError, check_frame_size
from pipeline.decoding.orientation import UPRIGHT, Orientation, with_square_pixels
from pipeline.decoding.plane_scaling import PlaneScaler
from pipeline.errors import QuarantineReason
from pipeline.preprocessing import FramePreprocessor


class FrameShaper:
    """Turns decoded frames into upright RGB, of the size that is asked for."""

    def __init__(
        self,
        pixel_aspect: Fraction | None,
        config: DecodeConfig,
        preprocess: FramePreprocessor | None,
    ) -> None:
        """Takes the pixel aspect of the video; without `preprocess` frames keep their own size."""
        self._pixel_aspect = pixel_aspect
        self._config = config
        self._preprocess = preprocess
        self._reformatter = VideoReformatter()
        resizes_planes = preprocess is not None and preprocess.config.resizes_planes
        self._scale_planes = PlaneScaler(preprocess) if preprocess and resizes_planes else None

    def __call__(
        self, frame: VideoFrame, position: int
    ) -> UInt8[np.ndarray, "shown_height shown_width 3"]:
        """The frame numbered `position` as RGB in [0, 255].

        Raises:
            RecordError: It is damaged (UNDECODABLE) or too large (TOO_LARGE).
        """
        if frame.is_corrupt:
            raise DecodeError(
                QuarantineReason.UNDECODABLE, f"frame {position} is damaged", is_final=True
            )
        check_frame_size(frame.width, frame.height, self._config)
        orientation = orientation_of(frame)
        if self._scale_planes is not None and self._scale_planes.is_for(frame):
            return self._scale_planes(frame, orientation, self._pixel_aspect)
        converted = self._reformatter.reformat(frame, format="rgb24", threads=1)
        squared = with_square_pixels(converted.to_ndarray(), self._pixel_aspect)
        shown = orientation.apply(squared)
        return self._preprocess(shown) if self._preprocess else shown


def orientation_of(frame: VideoFrame) -> Orientation:
    """How `frame` is turned and mirrored; only decoded frames know it."""
    # A container of our own: a frame's property keeps one that refers back to the frame, and such
    # a circle holds the picture until Python's garbage collector comes, hundreds of frames later.
    side_data = SideDataContainer(frame)  # type: ignore[call-arg]
    if not len(side_data):
        return UPRIGHT
    matrix = side_data.get("DISPLAYMATRIX")
    return Orientation.from_display_matrix(bytes(cast(Buffer, matrix))) if matrix else UPRIGHT
