"""The optional third decoder: torchcodec, over FFmpeg's shared libraries of the machine.

It looks for frames by their times and jumps between key frames as it likes. Hence it stands behind
`ScannedDecoder`, the time of every frame is compared with the packets', and streams whose key
frames do not show the whole picture at once are left to others. It loads torch: its decoding
child starts in seconds and holds some hundred megabytes more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipeline.decoding.scanned_decoder import ScannedDecoder, undecodable
from pipeline.errors import PipelineError
from pipeline.preprocessing import FramePreprocessor

_BATCH_BYTES = 16 * 2**20


class TorchCodecDecoder(ScannedDecoder):
    """Exact reading by frame number, in small batches."""

    name = "torchcodec"
    device = "cpu"
    _reader: Any = None

    def read_frames(
        self, indices: Iterable[int], preprocess: FramePreprocessor | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        for batch, frames in self._batches(indices):
            for index, frame in zip(batch, frames.data.numpy(), strict=True):
                yield index, self._shown(frame, preprocess)

    def _batches(self, indices: Iterable[int]) -> Iterator[tuple[list[int], Any]]:
        """The library's frames in small batches, with their numbers; their times are right."""
        wanted = iter(indices)
        while batch := list(islice(wanted, self._batch_frames)):
            with self.library_errors(f"frames {batch[0]} to {batch[-1]}"):
                frames = self._reader.get_frames_at(indices=batch)
            self._check_times(batch, frames.pts_seconds.cpu().numpy())
            yield batch, frames

    def close(self) -> None:
        self._reader = None

    @property
    def _errors(self) -> tuple[type[BaseException], ...]:
        return (RuntimeError, ValueError, IndexError)

    def _open_library(self) -> tuple[int, Any]:
        if not self._scan.has_presentation_times:
            raise undecodable("torchcodec needs presentation times, which this container lacks")
        if not self._scan.seek_points.are_all_key_frames_clean:
            raise undecodable("torchcodec starts at key frames, which are incomplete here")
        self._reader = load_torchcodec().VideoDecoder(
            self._path,
            stream_index=self._scan.stream_index,
            dimension_order="NHWC",
            num_ffmpeg_threads=self._config.num_threads,
            device=self.device,
            seek_mode="exact",
        )
        first = self._reader.get_frame_at(0).data.cpu().numpy()
        self._batch_frames = max(1, _BATCH_BYTES // first.nbytes)
        return len(self._reader), first

    def _check_times(self, indices: list[int], times_s: np.ndarray) -> None:
        unit_s = float(self._scan.time_base_s)
        expected_s = self._scan.timestamps[indices] * unit_s
        if np.abs(times_s - expected_s).max() > unit_s / 2:
            raise undecodable(
                f"torchcodec gives one of the frames {indices[0]} to {indices[-1]} another time "
                "than the packets"
            )


def load_torchcodec() -> Any:
    """The module `torchcodec.decoders`; loading it takes seconds the first time.

    Raises:
        PipelineError: It is not installed, or FFmpeg's shared libraries are missing.
    """
    try:
        import torchcodec.decoders
    except (ImportError, OSError, RuntimeError) as error:
        line = str(error).strip().partition("\n")[0]
        raise PipelineError(
            f"decode.decoders names torchcodec, which cannot be loaded on this machine ({line}); "
            "install it (pip install 'sweettok[torchcodec]') and FFmpeg's shared libraries (the "
            "ffmpeg package of the system), or take it out of decode.decoders"
        ) from error
    return torchcodec.decoders
