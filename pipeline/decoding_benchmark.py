"""How fast videos become frames of the tokenizer's size: every decoder beside FFmpeg's own program.

All ways alternate over the same files, medians count, and rates are per CPU second too: on a busy
machine only ratios of one run say something.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic

from pipeline.benchmark_videos import BenchmarkVideo
from pipeline.decoding.interface import DecoderName
from pipeline.decoding_ways import (
    FFMPEG_SCALE,
    DecodingWay,
    FFmpegWay,
    LibraryWay,
    RawDecodingWay,
    Usage,
)
from pipeline.errors import RecordError
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

Codec = Literal["h264", "hevc", "vp9", "mpeg4", "av1"]


class DecodingBenchmarkConfig(StrictConfig):
    """One run of `jobs/benchmark_decoding.py`.

    Attributes:
        codecs, heights_px, gop_frames: The files: one of every combination, 16:9.
        num_frames: Length of each file.
        source: Video whose frames are encoded, forwards and backwards; null makes up pictures.
        target_px: Height and width of the frames that are asked for.
        frames_per_clip: Frames that are gathered into one clip.
        decoders: Implementations, each with every one of `num_threads` and `interpolations`.
        num_threads: Decoding threads, FFmpeg's own program included.
        interpolations: Ways of resizing.
        strides: Every n-th frame is asked for; other than 1 for the first decoder only.
        num_rounds: How often every file is read in every way.
        ffmpeg: FFmpeg's program; where there is none, its rows are left out.
        directory: Where the files are made; those that are there are used again.
        output: JSON file with all numbers.
    """

    codecs: tuple[Codec, ...] = pydantic.Field(default=("h264", "hevc", "vp9"), min_length=1)
    heights_px: tuple[int, ...] = pydantic.Field(default=(360, 720), min_length=1)
    gop_frames: tuple[int, ...] = pydantic.Field(default=(12, 250), min_length=1)
    num_frames: int = pydantic.Field(default=500, ge=1)
    source: str | None = None
    target_px: int = pydantic.Field(default=256, ge=1)
    frames_per_clip: int = pydantic.Field(default=17, ge=1)
    decoders: tuple[DecoderName, ...] = pydantic.Field(
        default=("pyav", "decord", "torchcodec"), min_length=1
    )
    num_threads: tuple[int, ...] = pydantic.Field(default=(1, 2), min_length=1)
    interpolations: tuple[Literal["bicubic", "bilinear", "yuv_bicubic"], ...] = pydantic.Field(
        default=("bicubic", "yuv_bicubic"), min_length=1
    )
    strides: tuple[int, ...] = pydantic.Field(default=(1, 16), min_length=1)
    num_rounds: int = pydantic.Field(default=5, ge=1)
    ffmpeg: str = "ffmpeg"
    directory: str
    output: str

    @property
    def videos(self) -> tuple[BenchmarkVideo, ...]:
        """The files, one of every combination."""
        return tuple(
            BenchmarkVideo(codec, height_px, gop, self.num_frames)
            for codec in self.codecs
            for height_px in self.heights_px
            for gop in self.gop_frames
        )


@dataclass(frozen=True)
class DecodingMeasurement:
    """One file read in one way.

    Attributes:
        video: Name of the file.
        way: Name of the way.
        num_frames: Frames of the file.
        wall_s, cpu_s: Seconds of each round, of all processes that took part.
        cpu_share_of_ffmpeg: Frames per CPU second over those of FFmpeg's own program, which
            decodes and scales with one thread, round by round; None without it.
        peak_bytes: Largest resident memory of the decoding child; 0 where there is none.
    """

    video: str
    way: str
    num_frames: int
    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    cpu_share_of_ffmpeg: float | None = None
    peak_bytes: int = 0

    @property
    def frames_per_cpu_s(self) -> float:
        """Median frames of the file per CPU second."""
        return self.num_frames / statistics.median(self.cpu_s)

    @property
    def frames_per_wall_s(self) -> float:
        """Median frames of the file per second."""
        return self.num_frames / statistics.median(self.wall_s)


@dataclass(frozen=True)
class DecodingReport:
    """Everything measured.

    Attributes:
        measurements: File by file, way by way.
        left_out: What was not measured, and why.
        num_cpus: CPU cores of the machine.
    """

    measurements: tuple[DecodingMeasurement, ...]
    left_out: tuple[str, ...]
    num_cpus: int

    def table(self) -> str:
        """A Markdown table, then a line for all that was left out."""
        lines = [
            "| file | way | frames / CPU s | frames / s | of FFmpeg's own | child's peak, MiB |",
            "|---|---|---:|---:|---:|---:|",
        ]
        for it in self.measurements:
            share = "" if it.cpu_share_of_ffmpeg is None else f"{it.cpu_share_of_ffmpeg:.2f}"
            peak = f"{it.peak_bytes / 2**20:,.0f}" if it.peak_bytes else ""
            lines.append(
                f"| {it.video} | {it.way} | {it.frames_per_cpu_s:,.0f} | "
                f"{it.frames_per_wall_s:,.0f} | {share} | {peak} |"
            )
        return "\n".join([*lines, *(f"left out: {what}" for what in self.left_out)])


def run_decoding_benchmark(config: DecodingBenchmarkConfig) -> DecodingReport:
    """Makes the files that are not there yet and reads them in every way.

    The JSON file is written anew after every file.

    Raises:
        PipelineError: A file cannot be made, or FFmpeg's own program fails on it.
    """
    directory = Path(config.directory)
    directory.mkdir(parents=True, exist_ok=True)
    measurements: list[DecodingMeasurement] = []
    left_out: dict[str, None] = {}
    report = DecodingReport((), (), os.cpu_count() or 1)
    for video in config.videos:
        path = video.made_in(directory, config.source)
        ways = _ways(config, left_out)
        measurements.extend(_measure(video, path, ways, config.num_rounds, left_out))
        report = DecodingReport(tuple(measurements), tuple(left_out), report.num_cpus)
        _write(report, Path(config.output))
        logger.info("%s: %d ways", video.name, len(ways))
    return report


def _ways(config: DecodingBenchmarkConfig, left_out: dict[str, None]) -> list[DecodingWay]:
    ways: list[DecodingWay] = []
    if shutil.which(config.ffmpeg):
        ways += FFmpegWay.all(config.ffmpeg, config.target_px, config.num_threads)
    else:
        left_out[f"FFmpeg's own program: there is no {config.ffmpeg} on this machine"] = None
    ways += [RawDecodingWay(num_threads) for num_threads in config.num_threads]
    for decoder in config.decoders:
        if reason := LibraryWay.why_not(decoder):
            left_out[f"{decoder}: {reason}"] = None
            continue
        is_first = decoder == config.decoders[0]
        ways += [
            LibraryWay(
                decoder,
                num_threads,
                interpolation,
                stride,
                config.target_px,
                config.frames_per_clip,
                is_isolated,
            )
            for interpolation in config.interpolations
            for num_threads in config.num_threads
            for stride in (config.strides if is_first else config.strides[:1])
            for is_isolated in ((False, True) if is_first and num_threads == 1 else (False,))
        ]
    return ways


def _measure(
    video: BenchmarkVideo,
    path: Path,
    ways: Sequence[DecodingWay],
    num_rounds: int,
    left_out: dict[str, None],
) -> list[DecodingMeasurement]:
    usages: dict[str, list[Usage]] = {}
    refused: set[str] = set()
    for _ in range(num_rounds):
        for way in ways:
            if way.name in refused:
                continue
            try:
                usages.setdefault(way.name, []).append(way.measured(str(path)))
            except RecordError as error:
                refused.add(way.name)
                left_out[f"{video.name}, {way.name}: {error}"] = None
                del usages[way.name]
    own = usages.get(FFMPEG_SCALE)
    return [_measurement(video, name, taken, own) for name, taken in usages.items()]


def _measurement(
    video: BenchmarkVideo, way: str, usages: Sequence[Usage], own: Sequence[Usage] | None
) -> DecodingMeasurement:
    shares = [theirs.cpu_s / usage.cpu_s for theirs, usage in zip(own or [], usages, strict=False)]
    return DecodingMeasurement(
        video.name,
        way,
        video.num_frames,
        wall_s=tuple(usage.wall_s for usage in usages),
        cpu_s=tuple(usage.cpu_s for usage in usages),
        cpu_share_of_ffmpeg=statistics.median(shares) if shares else None,
        peak_bytes=max(usage.peak_bytes for usage in usages),
    )


def _write(report: DecodingReport, output: Path) -> None:
    rates = [
        {
            **dataclasses.asdict(it),
            "frames_per_cpu_s": it.frames_per_cpu_s,
            "frames_per_wall_s": it.frames_per_wall_s,
        }
        for it in report.measurements
    ]
    values = {**dataclasses.asdict(report), "measurements": rates}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(values, indent=2) + "\n")
