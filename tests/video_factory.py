"""Makes small real video files, ordinary and odd, for tests.

Every frame tells its own number: `frame_number` reads it back after any lossy codec, so that a
test can say which frames it got and not only how many.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.evaluation.video_codec import scheduling_kept

# A clock fine enough for times that follow no frame rate, and exact at 25 and 30 fps.
TIME_BASE = Fraction(1, 9000)
NUM_BITS = 8


def make_video(
    path: Path,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    num_frames: int = 40,
    width_px: int = 96,
    height_px: int = 64,
    fps: float = 25.0,
    times_s: Sequence[float] | None = None,
    gop_frames: int = 12,
    pixel_aspect: Fraction | None = None,
    with_audio: bool = False,
    muxer_options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    colorspace: int | None = None,
    frames: Sequence[np.ndarray] | None = None,
) -> Path:
    """Encodes `frames` (or numbered ones), shown at `times_s` (or at `fps`), into `path`."""
    if frames is None:
        frames = [numbered_frame(number, width_px, height_px) for number in range(num_frames)]
    height_px, width_px = frames[0].shape[:2]
    if times_s is None:
        times_s = [number / fps for number in range(len(frames))]
    with (
        scheduling_kept(),
        av.open(str(path), "w", options=muxer_options or {}) as container,
    ):
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, pixel_format
        stream.gop_size = gop_frames
        stream.options = codec_options or {}
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        is_fixed_rate = (
            codec in ("mpeg4", "mpeg1video", "mpeg2video", "gif") or path.suffix == ".avi"
        )
        if not is_fixed_rate:
            stream.codec_context.time_base = TIME_BASE
        audio = container.add_stream("aac", rate=48000) if with_audio else None
        for number, (pixels, time_s) in enumerate(zip(frames, times_s, strict=True)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if colorspace is not None:
                frame = frame.reformat(format=pixel_format, dst_colorspace=colorspace)
            if is_fixed_rate:
                frame.pts, frame.time_base = number, 1 / Fraction(fps).limit_denominator(1001)
            else:
                frame.pts, frame.time_base = round(time_s / TIME_BASE), TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            _write_tone(container, audio, times_s[-1] + 1 / fps)
    return path


def make_audio(path: Path, duration_s: float = 1.0) -> Path:
    """A file of sound only."""
    with av.open(str(path), "w") as container:
        _write_tone(container, container.add_stream("aac", rate=48000), duration_s)
    return path


def numbered_frame(number: int, width_px: int = 96, height_px: int = 64) -> np.ndarray:
    """A frame with `number` as eight black or white columns in its middle rows.

    The top is red and the left edge is green, so that turned and mirrored frames show.
    """
    frame = np.full((height_px, width_px, 3), 128, np.uint8)
    for bit in range(NUM_BITS):
        left, right = bit * width_px // NUM_BITS, (bit + 1) * width_px // NUM_BITS
        frame[height_px // 4 : -height_px // 4, left:right] = 255 * (number >> bit & 1)
    frame[: height_px // 4] = (255, 0, 0)
    frame[-height_px // 4 :, : width_px // 4] = (0, 255, 0)
    return frame


def frame_number(frame: np.ndarray) -> int:
    """The number that a frame made by `numbered_frame` carries, at any size."""
    row = frame[frame.shape[0] // 2].astype(float).mean(axis=-1)
    columns = np.array_split(row, NUM_BITS)
    return sum(int(np.median(column) > 127) << bit for bit, column in enumerate(columns))


def rotate(path: Path, quarter_turns: int, *, mirrored: bool = False) -> Path:
    """Rewrites the display matrix of an MP4: shown turned clockwise, then mirrored sideways."""
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns % 4]
    flip = -1 if mirrored else 1
    matrix = [flip * cosine, sine, 0, -flip * sine, cosine, 0, 0, 0]
    packed = struct.pack(">8i", *(value << 16 for value in matrix)) + struct.pack(">i", 1 << 30)
    content = bytearray(path.read_bytes())
    # A version 0 track header keeps its matrix 40 bytes after its version field.
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + len(packed)] = packed
    path.write_bytes(content)
    return path


def hide_first_frames(path: Path, num_hidden: int, fps: float) -> Path:
    """Rewrites the edit list of an MP4 so that its first frames are not shown."""
    content = bytearray(path.read_bytes())
    start = content.index(b"elst") + 12
    timescale_at = content.index(b"mdhd") + 16
    (timescale,) = struct.unpack_from(">I", content, timescale_at)
    (movie_timescale,) = struct.unpack_from(">I", content, content.index(b"mvhd") + 16)
    duration, media_time = struct.unpack_from(">Ii", content, start)
    hidden_s = num_hidden / fps
    struct.pack_into(
        ">Ii",
        content,
        start,
        duration - round(hidden_s * movie_timescale),
        media_time + round(hidden_s * timescale),
    )
    path.write_bytes(content)
    return path


def truncate(path: Path, share: float) -> Path:
    """Cuts a file after `share` of its bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def damage(path: Path, start_share: float, num_bytes: int = 4000) -> Path:
    """Overwrites bytes in the middle of a file with noise."""
    content = bytearray(path.read_bytes())
    start = int(len(content) * start_share)
    noise = np.random.default_rng(0).integers(0, 256, num_bytes, np.uint8).tobytes()
    content[start : start + num_bytes] = noise
    path.write_bytes(content[: path.stat().st_size])
    return path


def has_encoder(codec: str) -> bool:
    """Whether this build of FFmpeg can make such a file."""
    try:
        av.codec.Codec(codec, "w")
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _write_tone(
    container: av.container.OutputContainer, stream: av.AudioStream, duration_s: float
) -> None:
    rate = 48000
    samples = np.sin(np.arange(int(duration_s * rate)) * 0.05).astype(np.float32)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(
            samples[None, start : start + 1024], format="fltp", layout="mono"
        )
        frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
