"""Crop and resize of a frame's stored YUV planes, before what is left becomes RGB.

A video stores brightness and two halved colour planes: half the samples of RGB. Cropping moves
pointers only, the planes are resized by FFmpeg's bicubic filter (widened when shrinking, so
antialiased), and the conversion to RGB touches no more than the pixels of the result.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from jaxtyping import UInt8

from pipeline.decoding.orientation import Orientation, square_pixel_width
from pipeline.preprocessing import FramePreprocessor, whole_pixels

# Every colour of the result gets its own chroma, and nothing is truncated. FFmpeg has vectorized
# code for this with planes as the output, and none with interleaved RGB.
_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_RESULT_FORMAT = "gbrp"
_RGB_OF_PLANES = (1, 2, 0)  # the planes are green, blue, red
# FFmpeg's numbers of colour matrices. What a file leaves unsaid is BT.601, as for players.
_MATRICES = {1: "bt709", 4: "fcc", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_UNSAID_MATRIX = "bt601"
_FULL_RANGE = 2
_YUV_PLANES_PREFIX = "yuv"
_OLD_FULL_RANGE_PREFIX = "yuvj"


class _Layout(NamedTuple):
    """What a graph is made for; a video may change it on the way."""

    width_px: int
    height_px: int
    format: str
    matrix: str
    is_full_range: bool
    orientation: Orientation
    pixel_aspect: Fraction | None


class PlaneScaler:
    """Brings decoded frames to the size that `preprocess` asks for, one after the other."""

    def __init__(self, preprocess: FramePreprocessor) -> None:
        self._preprocess = preprocess
        self._layout: _Layout | None = None
        self._graph: Graph | None = None

    def is_for(self, frame: VideoFrame) -> bool:
        """Whether `frame` consists of YUV planes; gray, palettes and RGB have no use for this."""
        return frame.format.name.startswith(_YUV_PLANES_PREFIX)

    def __call__(
        self, frame: VideoFrame, orientation: Orientation, pixel_aspect: Fraction | None
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The kept part of `frame`, upright and undistorted, RGB in [0, 255].

        Args:
            frame: A frame for which `is_for` holds.
            orientation: How it is turned to be upright.
            pixel_aspect: Width of its pixels over their height, None if they are square.
        """
        layout = _layout_of(frame, orientation, pixel_aspect)
        if self._graph is None or layout != self._layout:
            self._layout, self._graph = layout, self._graph_for(layout)
        self._graph.push(frame)
        scaled = self._graph.pull()
        assert isinstance(scaled, VideoFrame)
        return orientation.apply(_interleaved(scaled))

    def _graph_for(self, layout: _Layout) -> Graph:
        target = self._preprocess
        width_px, height_px = layout.orientation.shown_size(target.width_px, target.height_px)
        left, top, right, bottom = self._stored_box(layout)
        graph = Graph()
        graph.threads = 1
        steps = (
            graph.add_buffer(
                width=layout.width_px,
                height=layout.height_px,
                format=VideoFormat(layout.format),
                time_base=Fraction(1),
            ),
            graph.add("crop", f"w={right - left}:h={bottom - top}:x={left}:y={top}:exact=1"),
            graph.add(
                "scale",
                f"w={width_px}:h={height_px}:flags={_FLAGS}:in_color_matrix={layout.matrix}:"
                f"in_range={'full' if layout.is_full_range else 'limited'}",
            ),
            graph.add("format", _RESULT_FORMAT),
            graph.add("buffersink"),
        )
        graph.link_nodes(*steps).configure()
        return graph

    def _stored_box(self, layout: _Layout) -> tuple[int, int, int, int]:
        """The kept part in stored pixels: as it is asked for upright, with square ones."""
        width_px, height_px = layout.width_px, layout.height_px
        square_px = square_pixel_width(width_px, layout.pixel_aspect)
        shown_width_px, shown_height_px = layout.orientation.shown_size(square_px, height_px)
        box = self._preprocess.source_box(shown_height_px, shown_width_px)
        if layout.orientation.is_transposed:
            box = (box[1], box[0], box[3], box[2])
        shrink = width_px / square_px
        stored = (box[0] * shrink, box[1], box[2] * shrink, box[3])
        left, top, right, bottom = map(int, whole_pixels(stored, height_px, width_px))
        return left, top, right, bottom


def _layout_of(
    frame: VideoFrame, orientation: Orientation, pixel_aspect: Fraction | None
) -> _Layout:
    name = frame.format.name
    is_full_range = frame.color_range == _FULL_RANGE or name.startswith(_OLD_FULL_RANGE_PREFIX)
    matrix = _MATRICES.get(int(frame.colorspace), _UNSAID_MATRIX)
    return _Layout(
        frame.width, frame.height, name, matrix, is_full_range, orientation, pixel_aspect
    )


def _interleaved(frame: VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
    rgb = np.empty((frame.height, frame.width, len(_RGB_OF_PLANES)), np.uint8)
    for channel, plane in zip(_RGB_OF_PLANES, frame.planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        rgb[..., channel] = rows[: frame.height, : frame.width]
    return rgb
