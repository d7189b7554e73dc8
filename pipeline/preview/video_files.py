"""Writes frames as H.264 mp4 files that every browser plays.

Colours are converted and tagged as BT.709, limited range, so that a player need not guess: a
guess shifts the colours, and these files exist to be compared with one another. 4:2:0 chroma
needs even sizes; an odd one is padded by repeating its last row or column.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8

from pipeline.errors import PipelineError
from sweettok.errors import ShapeError

# Axes of this package: time, height, width, 3 = RGB.
Frames = UInt8[np.ndarray, "time height width 3"]

ENCODER_OPTIONS = {
    # crf 12 is visually lossless; at preview sizes slower presets make no smaller files.
    # Without its macroblock tree x264 gives equal bytes for equal frames; with it, frames of 64 px
    # and less come out in several versions, as it looks at memory that nobody has written.
    "libx264": {"crf": "12", "preset": "veryfast", "x264-params": "mbtree=0"},
    # Builds of FFmpeg without libx264: openh264 plays in browsers too, mpeg4 in players only.
    "libopenh264": {"b": "4M"},
    "mpeg4": {"qscale": "2"},
}
BT709_TAG = 1  # colour primaries and transfer characteristics, ISO/IEC 23091-2


def encode_mp4(frames: Frames, fps: float) -> bytes:
    """One mp4 file in memory.

    Args:
        frames: RGB in [0, 255], at least one frame.
        fps: Frames per second, above 0.

    Returns:
        The file's bytes, index first ("faststart"); the same frames give the same bytes.

    Raises:
        ShapeError: `frames` is no uint8 [time, height, width, 3] array, or `fps` is not positive.
        PipelineError: This build of FFmpeg has none of the encoders.
    """
    with tempfile.TemporaryDirectory(prefix="preview-") as folder:
        # FFmpeg moves the index by reading its output back, so it has to be a real file.
        path = Path(folder) / "clip.mp4"
        _encode_file(path, frames, fps)
        return path.read_bytes()


def write_mp4(path: str | Path, frames: Frames, fps: float) -> None:
    """Writes one mp4 file; `path` holds the whole file or is left as it was.

    The parent folder is made if need be. Arguments and errors as for `encode_mp4`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex}.unfinished")
    try:
        _encode_file(unfinished, frames, fps)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_frames(frames: np.ndarray, name: str = "frames") -> None:
    """Raises `ShapeError` unless `frames` is uint8 [time, height, width, 3] and not empty."""
    right_shape = frames.ndim == 4 and frames.shape[-1] == 3 and frames.size > 0
    if frames.dtype != np.uint8 or not right_shape:
        raise ShapeError(
            f"{name} must be uint8 [time, height, width, 3] and not empty, "
            f"found {frames.dtype} {list(frames.shape)}"
        )


def available_encoder() -> str:
    """Name of the best encoder in this build of FFmpeg.

    Raises:
        PipelineError: It has none of those known here.
    """
    for name in ENCODER_OPTIONS:
        if name in av.codecs_available:
            return name
    raise PipelineError(
        f"FFmpeg in PyAV {av.__version__} has none of the encoders {', '.join(ENCODER_OPTIONS)}; "
        "install PyAV's own wheel: pip install --force-reinstall av"
    )


def _encode_file(path: Path, frames: Frames, fps: float) -> None:
    check_frames(frames)
    if not 0 < fps < float("inf"):
        raise ShapeError(f"fps must be above 0, found {fps}")
    frames = padded_to_even(frames)
    encoder = available_encoder()
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(
            encoder,
            rate=Fraction(fps).limit_denominator(1001),
            options=ENCODER_OPTIONS[encoder],
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        context.color_primaries = context.color_trc = BT709_TAG
        for image in frames:
            container.mux(stream.encode(as_bt709(image)))
        container.mux(stream.encode())


def as_bt709(image: UInt8[np.ndarray, "height width 3"]) -> av.VideoFrame:
    """RGB in [0, 255] as BT.709, limited range, 4:2:0; height and width must be even."""
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
    )


def padded_to_even(frames: Frames) -> Frames:
    """The frames with their last row and column repeated where a size is odd."""
    _, height, width, _ = frames.shape
    padding = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    return np.pad(frames, padding, mode="edge")
