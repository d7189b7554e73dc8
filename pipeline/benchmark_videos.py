"""Videos for the decoding benchmark: the frames of one source in several codecs and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, cycle, islice
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.frame import PictureType, VideoFrame

from pipeline.errors import PipelineError

FPS = 25
_ASPECT = Fraction(16, 9)
_MAX_SOURCE_FRAMES = 100  # they wait in memory, and run forwards and backwards by turns
_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "medium"}),
    "hevc": ("libx265", {"preset": "fast", "x265-params": "log-level=none"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "2000000"}),
    "mpeg4": ("mpeg4", {"qmin": "3", "qmax": "8"}),
    "av1": ("libsvtav1", {"preset": "10", "crf": "35"}),
}
CODECS = tuple(_ENCODERS)


@dataclass(frozen=True)
class BenchmarkVideo:
    """One file of the benchmark.

    Attributes:
        codec: One of `CODECS`.
        height_px: Its height; it is 16:9.
        gop_frames: Frames from one key frame to the next.
        num_frames: Its length.
    """

    codec: str
    height_px: int
    gop_frames: int
    num_frames: int

    @property
    def width_px(self) -> int:
        """Its width, even."""
        return round(self.height_px * _ASPECT / 2) * 2

    @property
    def name(self) -> str:
        """How it is called in tables and, with a suffix, on disk."""
        return f"{self.codec}-{self.height_px}p-gop{self.gop_frames}-{self.num_frames}"

    def made_in(self, directory: Path, source: str | None) -> Path:
        """The file in `directory`, encoded from the frames of `source` if it is not there yet.

        Raises:
            PipelineError: There is no such source, or no encoder in this build of FFmpeg.
        """
        path = directory / f"{self.name}.mp4"
        if not path.exists():
            partial = path.with_suffix(".part")
            self._encode(partial, source)
            partial.rename(path)
        return path

    def _encode(self, path: Path, source: str | None) -> None:
        encoder, options = _ENCODERS[self.codec]
        frames = list(_frames_of(source) if source else _moving_texture())
        back_and_forth = cycle(chain(frames, reversed(frames)))
        try:
            with av.open(str(path), "w", format="mp4") as container:
                stream = container.add_stream(encoder, rate=FPS, options=options)
                stream.width, stream.height = self.width_px, self.height_px
                stream.pix_fmt, stream.gop_size = "yuv420p", self.gop_frames
                for number, frame in enumerate(islice(back_and_forth, self.num_frames)):
                    container.mux(stream.encode(self._scaled(frame, number)))
                container.mux(stream.encode(None))
        except av.error.FFmpegError as error:
            raise PipelineError(
                f"{self.codec} cannot be encoded here ({error}); take it out of codecs"
            ) from error

    def _scaled(self, frame: VideoFrame, number: int) -> VideoFrame:
        # Never the frame itself, which is used again.
        scaled = frame.reformat(width=self.width_px, height=self.height_px, format="yuv444p")
        scaled = scaled.reformat(format="yuv420p")
        scaled.pts, scaled.time_base = number, Fraction(1, FPS)
        scaled.pict_type = PictureType.NONE
        return scaled


def _frames_of(source: str) -> Iterator[VideoFrame]:
    try:
        with av.open(source) as container:
            yield from islice(container.decode(video=0), _MAX_SOURCE_FRAMES)
    except (OSError, av.error.FFmpegError) as error:
        raise PipelineError(
            f"source {source} cannot be read ({error}); python jobs/fetch_sample_videos.py "
            "fetches the sample videos, and null makes up the pictures"
        ) from error


def _moving_texture() -> Iterator[VideoFrame]:
    """Smooth noise that wanders: made up, but no codec gets it for nothing."""
    generator = np.random.default_rng(0)
    coarse = VideoFrame.from_ndarray(generator.integers(0, 256, (48, 84, 3), np.uint8), "rgb24")
    texture = coarse.reformat(width=1680, height=960).to_ndarray().astype(np.uint8)
    for step in range(_MAX_SOURCE_FRAMES):
        shown = texture[step : step + 720, 3 * step : 3 * step + 1280]
        yield VideoFrame.from_ndarray(np.ascontiguousarray(shown), "rgb24")
