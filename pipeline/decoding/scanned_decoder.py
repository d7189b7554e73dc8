"""What decoders of other libraries share: they are believed only where the packets bear them out.

PyAV reads the container first. The timeline is the packets', the library must count as many frames
as they show, and a file that it would show mirrored the wrong way is left to others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipeline.decoding.container_scan import scan_packets
from pipeline.decoding.interface import (
    DecodeConfig,
    FrameTimeline,
    VideoDecoder,
    check_file,
    check_frame_size,
)
from pipeline.decoding.orientation import Orientation, with_square_pixels
from pipeline.decoding.pyav_decoder import first_orientation
from pipeline.errors import QuarantineReason, RecordError
from pipeline.preprocessing import FramePreprocessor
from pipeline.records import VideoInfo


class ScannedDecoder(VideoDecoder):
    """A decoder over a library that gives frames upright, but with their stored pixel aspect."""

    name: str

    def __init__(self, path: str, config: DecodeConfig) -> None:
        """Opens `path`.

        Raises:
            RecordError: The file's own fault, or the library and the container disagree.
        """
        check_file(path, config)
        self._path = path
        self._config = config
        self._scan = scan_packets(path, config)
        self._timeline = self._scan.timeline()
        orientation = first_orientation(path, config)
        if orientation is not None and orientation.is_mirrored:
            raise undecodable(f"{self.name} does not know mirrored videos")
        with self.library_errors("its first frame"):
            num_frames, first = self._open_library()
        num_promised = self._timeline.num_frames
        if num_frames != num_promised:
            raise undecodable(
                f"{self.name} counts {num_frames} frames, the packets show {num_promised}"
            )
        scan = self._scan
        size = (orientation or Orientation()).shown_size(scan.width_px, scan.height_px)
        if (first.shape[1], first.shape[0]) != size:
            raise undecodable(f"{self.name} gives frames of another size than the container")
        self._info = self._describe(self._shown(first))

    @property
    def info(self) -> VideoInfo:
        return self._info

    def timeline(self) -> FrameTimeline:
        return self._timeline

    @property
    @abstractmethod
    def _errors(self) -> tuple[type[BaseException], ...]:
        """What the library raises for a file that it cannot decode."""

    @abstractmethod
    def _open_library(self) -> tuple[int, Any]:
        """Opens the file; returns the library's number of frames and its first one."""

    @contextmanager
    def library_errors(self, what: str) -> Iterator[None]:
        """Turns the library's errors over `what` into record errors."""
        try:
            yield
        except self._errors as error:
            raise undecodable(f"{self.name}: {what}: {_first_line(error)}") from error

    def _shown(
        self,
        frame: UInt8[np.ndarray, "height width 3"],
        preprocess: FramePreprocessor | None = None,
    ) -> UInt8[np.ndarray, "shown_height shown_width 3"]:
        if frame.ndim != 3 or frame.shape[2] != 3:
            raise undecodable(f"{self.name} gives frames of shape {frame.shape}")
        check_frame_size(frame.shape[1], frame.shape[0], self._config)
        squared = with_square_pixels(frame, self._scan.pixel_aspect)
        return preprocess(squared) if preprocess else squared

    def _describe(self, shown: UInt8[np.ndarray, "height width 3"]) -> VideoInfo:
        timeline = self._timeline
        return VideoInfo(
            width_px=shown.shape[1],
            height_px=shown.shape[0],
            fps=timeline.num_frames / timeline.end_s if timeline.end_s > 0 else 0.0,
            num_frames=timeline.num_frames,
            duration_s=timeline.end_s,
            codec=self._scan.codec,
            decoder=self.name,
        )


def undecodable(message: str) -> RecordError:
    """The error of a library that cannot read a file which others perhaps can."""
    return RecordError(QuarantineReason.UNDECODABLE, message)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
