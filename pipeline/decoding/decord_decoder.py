"""The second decoder: decord, trusted only where it shows the frames that the container promises.

decord keeps frames that an edit list hides, repeats frames that it failed to decode, and follows
playlists. Hence it stands behind `ScannedDecoder`, and its fault tolerance is off: the first frame
that it had to make up ends the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipeline.decoding.scanned_decoder import ScannedDecoder, undecodable
from pipeline.preprocessing import FramePreprocessor

_NUM_CHANNELS = 3  # red, green, blue
# decord reads 0 and below as "tolerate everything"; this share of a video is less than one frame.
_NO_FAULT = 1e-9


class DecordDecoder(ScannedDecoder):
    """Sequential reading through decord's own bundled FFmpeg, always from the start."""

    name = "decord"
    _reader: Any = None

    def read_frames(
        self, indices: Iterable[int], preprocess: FramePreprocessor | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        # Opened anew and read frame by frame: seeking is what decord does least reliably, and its
        # skipping lands on other frames in files without an index.
        reader = self._open_reader()
        position = 0
        for index in indices:
            with self.library_errors(f"frame {index}"):
                for _ in range(position, index):
                    reader.next()
                frame = without_padding(reader.next().asnumpy())
            position = index + 1
            yield index, self._shown(frame, preprocess)

    def close(self) -> None:
        self._reader = None

    @property
    def _errors(self) -> tuple[type[BaseException], ...]:
        decord = _import_decord()
        return (
            decord.DECORDError,
            decord._ffi.base.DECORDLimitReachedError,
            RuntimeError,
            AssertionError,
            StopIteration,
            UnicodeEncodeError,
        )

    def _open_library(self) -> tuple[int, Any]:
        self._reader = self._open_reader()
        first = without_padding(self._reader.next().asnumpy())
        return len(self._reader), first

    def _open_reader(self) -> Any:
        decord = _import_decord()
        return decord.VideoReader(
            self._path,
            ctx=decord.cpu(0),
            num_threads=self._config.num_threads,
            fault_tol=_NO_FAULT,
        )


def without_padding(
    padded: UInt8[np.ndarray, "height width channels"],
) -> UInt8[np.ndarray, "height width 3"]:
    """The RGB pixels of an array of decord's.

    decord counts the padding at the end of some narrow rows as channels: 48 px for 4 of them.
    """
    height_px, width_px = padded.shape[:2]
    rows = padded.reshape(height_px, -1)[:, : width_px * _NUM_CHANNELS]
    return rows.reshape(height_px, width_px, _NUM_CHANNELS)


def _import_decord() -> Any:
    # Imported late: the library takes a while to load and is rarely needed.
    try:
        import decord
    except ImportError as error:
        raise undecodable("decord is not installed on this machine") from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord
