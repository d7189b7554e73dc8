"""The ways of reading one video that the decoding benchmark compares."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pipeline.clips import ClipConfig, ClipShare
from pipeline.decoding.container_scan import open_video
from pipeline.decoding.cutting import CutSettings, FileCutter, InProcessCutter
from pipeline.decoding.interface import DecodeConfig, DecoderName
from pipeline.decoding.isolation import IsolatedCutter
from pipeline.decoding.nvdec_decoder import check_nvdec
from pipeline.decoding.packets import demuxed
from pipeline.decoding.pyav_decoder import decoded_frames
from pipeline.decoding.torchcodec_decoder import load_torchcodec
from pipeline.errors import PipelineError
from pipeline.preprocessing import PreprocessConfig
from sweettok.geometry import ClipGeometry

FFMPEG_SCALE = "ffmpeg scale, 1 thread"
_LAST_STDERR_CHARACTERS = 300
_NO_CLIP = ClipShare(0, 2**40)  # starts the child and opens the file


@dataclass(frozen=True, slots=True)
class Usage:
    """What reading one file once took.

    Attributes:
        wall_s: Seconds.
        cpu_s: CPU seconds of all processes that took part.
        peak_bytes: Largest resident memory of the decoding child; 0 where there is none.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int = 0


class DecodingWay(Protocol):
    """One way to read a file from its beginning to its end."""

    @property
    def name(self) -> str:
        """How it is called in tables."""

    def measured(self, path: str) -> Usage:
        """Reads the file once."""


@dataclass(frozen=True)
class FFmpegWay:
    """FFmpeg's own program, which decodes, filters and throws away.

    Attributes:
        program: Its name or path.
        what: "decode", "scale" or "scale to RGB".
        filters: Its filters; empty means none.
        num_threads: Threads of the decoder.
    """

    program: str
    what: str
    filters: str
    num_threads: int

    @classmethod
    def all(cls, program: str, target_px: int, num_threads: Sequence[int]) -> list[FFmpegWay]:
        """Decoding alone, with its scaling, and with all that we do as well."""
        chains = {
            "scale": f"scale=-2:{target_px}",
            "decode": "",
            "scale to RGB": f"crop=ih:ih,scale={target_px}:{target_px},format=rgb24",
        }
        threads = dict.fromkeys((1, *num_threads))
        return [cls(program, what, chains[what], count) for count in threads for what in chains]

    @property
    def name(self) -> str:
        return f"ffmpeg {self.what}, {_threads(self.num_threads)}"

    def measured(self, path: str) -> Usage:
        """See `DecodingWay.measured`.

        Raises:
            PipelineError: The program fails.
        """
        filters = ["-vf", self.filters] if self.filters else []
        threads = ["-threads", str(self.num_threads), "-filter_threads", "1"]
        command = [self.program, "-v", "error", "-nostdin", *threads, "-i", path, "-an", *filters]
        start_s, start_cpu_s = time.perf_counter(), _ended_children_cpu_s()
        run = subprocess.run([*command, "-f", "null", "-"], capture_output=True, text=True)
        if run.returncode:
            raise PipelineError(f"{path}: ffmpeg: {run.stderr.strip()[-_LAST_STDERR_CHARACTERS:]}")
        return Usage(time.perf_counter() - start_s, _ended_children_cpu_s() - start_cpu_s)


@dataclass(frozen=True)
class RawDecodingWay:
    """Every frame decoded through PyAV and looked at by nobody: the floor of the ways below."""

    num_threads: int

    @property
    def name(self) -> str:
        return f"pyav decode alone, {_threads(self.num_threads)}"

    def measured(self, path: str) -> Usage:
        """See `DecodingWay.measured`."""
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        config = DecodeConfig(num_threads=self.num_threads)
        with open_video(path, config) as (container, stream):
            for _ in decoded_frames(demuxed(container, stream), stream):
                pass
        return Usage(time.perf_counter() - start_s, time.process_time() - start_cpu_s)


@dataclass(frozen=True)
class LibraryWay:
    """The whole way of the pipeline: scan, plan, decode, resize, gather clips.

    Attributes:
        decoder: Which implementation.
        num_threads: Decoding threads.
        interpolation: How frames are resized.
        stride: Every n-th frame is asked for.
        target_px: Height and width of the result.
        frames_per_clip: Frames of one clip.
        is_isolated: In the child process, as the pipeline does it, or in this one.
    """

    decoder: DecoderName
    num_threads: int
    interpolation: Literal["bicubic", "bilinear", "yuv_bicubic"]
    stride: int
    target_px: int
    frames_per_clip: int
    is_isolated: bool

    @classmethod
    def why_not(cls, decoder: DecoderName) -> str | None:
        """Why the library cannot be used here; None if it can."""
        if decoder in ("torchcodec", "torchcodec_cuda"):
            try:
                load_torchcodec() if decoder == "torchcodec" else check_nvdec()
            except PipelineError as error:
                return str(error)
        is_missing = decoder == "decord" and importlib.util.find_spec("decord") is None
        return "it is not installed on this machine" if is_missing else None

    @property
    def name(self) -> str:
        parts = [f"{self.decoder} {self.interpolation}", _threads(self.num_threads)]
        if self.stride > 1:
            parts.append(f"every {self.stride}th frame")
        return ", ".join([*parts, *(["in a child"] if self.is_isolated else [])])

    def measured(self, path: str) -> Usage:
        """See `DecodingWay.measured`; a child is started before.

        Raises:
            RecordError: This decoder leaves such a file to others.
        """
        cutter: FileCutter = self._cutter()
        try:
            if self.is_isolated:
                list(cutter.cut(self.decoder, path, share=_NO_CLIP))
            return self._usage(cutter, path)
        finally:
            cutter.close()

    def _usage(self, cutter: FileCutter, path: str) -> Usage:
        start_s, start_cpu_s = time.perf_counter(), _cpu_s(cutter)
        for _ in cutter.cut(self.decoder, path):
            pass
        wall_s, cpu_s = time.perf_counter() - start_s, _cpu_s(cutter) - start_cpu_s
        return Usage(wall_s, cpu_s, _peak_bytes(cutter))

    def _cutter(self) -> IsolatedCutter | InProcessCutter:
        settings = CutSettings(
            DecodeConfig(decoders=(self.decoder,), num_threads=self.num_threads),
            ClipConfig(frame_stride=self.stride, tail="pad"),
            PreprocessConfig(interpolation=self.interpolation),
            ClipGeometry(
                num_frames=self.frames_per_clip,
                height_px=self.target_px,
                width_px=self.target_px,
                patch_px=1,
                tube_frames=1,
            ),
        )
        return (IsolatedCutter if self.is_isolated else InProcessCutter)(settings)


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _cpu_s(cutter: FileCutter) -> float:
    """CPU seconds of this process and of the cutter's child."""
    own_s = time.process_time()
    pid = _child_pid(cutter)
    if pid is None:
        return own_s
    # Behind the name in parentheses, which may hold blanks: fields 14 and 15 of proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return own_s + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_bytes(cutter: FileCutter) -> int:
    pid = _child_pid(cutter)
    status = "" if pid is None else Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _child_pid(cutter: FileCutter) -> int | None:
    return cutter.child_pid if isinstance(cutter, IsolatedCutter) else None


def _ended_children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
