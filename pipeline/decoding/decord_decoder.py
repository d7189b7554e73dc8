"""The second decoder: decord, trusted only where it shows the frames that the container promises.

decord keeps frames that an edit list hides, repeats frames that it failed to decode, and follows
playlists. Hence PyAV must have read the container first, decord must count as many frames as the
packets, and its fault tolerance is off: the first frame that it had to make up ends the file. It
knows rotation, but not mirroring.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from pipeline.decoding.orientation import with_square_pixels
from pipeline.errors import QuarantineReason, RecordError
from pipeline.records import VideoInfo

# decord reads 0 and below as "tolerate everything"; this share of a video is less than one frame.
_NO_FAULT = 1e-9


class DecordDecoder(VideoDecoder):
    """Sequential reading through decord's own bundled FFmpeg."""

    name = "decord"

    def __init__(self, path: str, config: DecodeConfig) -> None:
        """Opens `path`.

        Raises:
            RecordError: The file's own fault, or decord and the container disagree.
        """
        check_file(path, config)
        self._config = config
        self._scan = scan_packets(path, config)
        self._path = path
        self._decord = _import_decord()
        with self._decord_errors("its first frame"):
            self._reader: Any = self._open_reader()
            first = self._reader.next().asnumpy()
        num_frames, num_promised = len(self._reader), len(self._scan.timestamps)
        if num_frames != num_promised:
            raise _undecodable(
                f"decord counts {num_frames} frames, the packets show {num_promised}"
            )
        self._timeline = self._scan.timeline()
        self._info = self._describe(self._shown(first))

    @property
    def info(self) -> VideoInfo:
        return self._info

    def timeline(self) -> FrameTimeline:
        return self._timeline

    def read_frames(
        self, indices: Sequence[int]
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        # Opened anew rather than rewound: seeking is what decord does least reliably.
        reader = self._open_reader()
        position = 0
        for index in indices:
            with self._decord_errors(f"frame {index}"):
                if index > position:
                    reader.skip_frames(index - position)
                frame = reader.next().asnumpy()
            position = index + 1
            yield index, self._shown(frame)

    def close(self) -> None:
        self._reader = None

    def _open_reader(self) -> Any:
        return self._decord.VideoReader(
            self._path,
            ctx=self._decord.cpu(0),
            num_threads=self._config.num_threads,
            fault_tol=_NO_FAULT,
        )

    @contextmanager
    def _decord_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (
            self._decord.DECORDError,
            self._decord._ffi.base.DECORDLimitReachedError,
            RuntimeError,
            AssertionError,
            StopIteration,
            UnicodeEncodeError,
        ) as error:
            raise _undecodable(f"decord: {what}: {_first_line(error)}") from error

    def _shown(
        self, frame: UInt8[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "height square_width 3"]:
        check_frame_size(frame.shape[1], frame.shape[0], self._config)
        return with_square_pixels(frame, self._scan.pixel_aspect)

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


def _import_decord() -> Any:
    # Imported late: the library takes a while to load and is rarely needed.
    try:
        import decord
    except ImportError as error:
        raise _undecodable("decord is not installed on this machine") from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _undecodable(message: str) -> RecordError:
    return RecordError(QuarantineReason.UNDECODABLE, message)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
