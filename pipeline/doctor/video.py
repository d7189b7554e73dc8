"""Decoders: each one that the config names has to give the frames of a video made on the spot."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from pipeline.clips import ClipConfig
from pipeline.decoding.cutting import CutSettings, FileCutter, InProcessCutter
from pipeline.decoding.interface import DecodeConfig
from pipeline.decoding.isolation import IsolatedCutter
from pipeline.doctor.finding import Finding, guarded, ok
from pipeline.preprocessing import PreprocessConfig
from sweettok.geometry import ClipGeometry

CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg")
_GEOMETRY = ClipGeometry(num_frames=5, height_px=32, width_px=48)
_NUM_CLIPS = 2
_WRITTEN_WITH = "mpeg4"  # FFmpeg's own, in every build


def look_at_decoders(decode: DecodeConfig) -> Iterator[Finding]:
    """Cuts a small video with each decoder, where and how a run would."""
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        path = Path(folder) / "video.mp4"
        _write_video(path)
        for name in decode.decoders:
            alone = decode.model_copy(update={"decoders": (name,)})
            yield from guarded(
                f"decoder {name}",
                lambda alone=alone: [_cut(path, alone)],  # type: ignore[misc]
                "follow the message, or take the decoder out of decode.decoders",
            )


def look_at_codecs() -> Iterator[Finding]:
    """Which codecs FFmpeg can decode here, as PyAV has it."""
    lacking = [name for name in CODECS if not _has_codec(name)]
    if lacking:
        remedy = "videos in these end in quarantine; install a PyAV built with them"
        yield Finding("codecs", "warning", f"no decoder for {', '.join(lacking)}", remedy)
    else:
        yield ok("codecs", ", ".join(CODECS))


def _has_codec(name: str) -> bool:
    try:
        av.codec.Codec(name, "r")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _cut(path: Path, decode: DecodeConfig) -> Finding:
    (name,) = decode.decoders
    settings = CutSettings(decode, ClipConfig(), PreprocessConfig(), _GEOMETRY)
    isolated = decode.isolation == "process"
    cutter: FileCutter = IsolatedCutter(settings) if isolated else InProcessCutter(settings)
    try:
        num_clips = sum(1 for _ in cutter.cut(name, str(path)))
    finally:
        cutter.close()
    where = "in a process of its own" if isolated else "in this process"
    if num_clips != _NUM_CLIPS:
        detail = f"gave {num_clips} clips of {_NUM_CLIPS}"
        remedy = "take it out of decode.decoders, or install the version of constraints.txt"
        return Finding(f"decoder {name}", "failed", detail, remedy)
    return ok(f"decoder {name}", f"decodes, {where}")


def _write_video(path: Path) -> None:
    num_frames = _NUM_CLIPS * _GEOMETRY.num_frames
    with av.open(str(path), "w") as container:
        stream = container.add_stream(_WRITTEN_WITH, rate=25)
        stream.width, stream.height = _GEOMETRY.width_px, _GEOMETRY.height_px
        stream.pix_fmt = "yuv420p"
        for number in range(num_frames):
            shade = np.full((stream.height, stream.width, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        container.mux(stream.encode(None))
