"""Runs decoders over real files and says what they gave."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from pipeline.clips import ClipConfig
from pipeline.decoding.cutting import CutSettings, open_decoder
from pipeline.decoding.interface import DecodeConfig, DecoderName, VideoDecoder
from pipeline.decoding.stage import DecodeStage
from pipeline.decoding.torchcodec_decoder import load_torchcodec
from pipeline.errors import PipelineError
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import Clip, UnitEnd, VideoInfo, WorkUnit
from pipeline.storage import StorageConfig, canonical_uri
from sweettok.geometry import ClipGeometry
from tests import video_factory as factory

CONFIG = DecodeConfig(isolation="none")
ALL_DECODERS: tuple[DecoderName, ...] = ("pyav", "pyav_two_pass", "decord", "torchcodec")
GEOMETRY = ClipGeometry(num_frames=5, height_px=32, width_px=32)


@functools.cache
def why_no_torchcodec() -> str | None:
    """Why the optional decoder cannot run here; None if it can."""
    try:
        load_torchcodec()
    except PipelineError as error:
        return str(error)
    return None


def opened(path: Path, decoder: DecoderName = "pyav") -> VideoDecoder:
    """The decoder over `path`; skips the test where the optional one cannot run."""
    if decoder == "torchcodec" and (reason := why_no_torchcodec()):
        pytest.skip(reason)
    return open_decoder(decoder, str(path), CONFIG)


def read_numbers(path: Path, decoder: DecoderName = "pyav") -> tuple[VideoInfo, list[float], list]:
    """What the decoder says, the frames' times, and the numbers written in the frames."""
    with opened(path, decoder) as video:
        timeline = video.timeline()
        frames = list(video.read_frames(range(timeline.num_frames)))
        assert [index for index, _ in frames] == list(range(timeline.num_frames))
        numbers = [factory.frame_number(frame) for _, frame in frames]
        return video.info, [*timeline.frame_times_s.tolist(), timeline.end_s], numbers


def unit_of(path: Path) -> WorkUnit:
    """The unit of a local file."""
    return WorkUnit("video", canonical_uri(path), "fingerprint", path.stat().st_size)


def settings(decode: DecodeConfig = CONFIG, **clips) -> CutSettings:
    """Settings for clips of five frames of 32 by 32 pixels."""
    return CutSettings(decode, ClipConfig(**clips), PreprocessConfig(), GEOMETRY)


def stage_results(
    path: Path, decode: DecodeConfig = CONFIG, unit: WorkUnit | None = None
) -> tuple[list[Clip], UnitEnd]:
    """The clips and the end that the decode stage gives for a file (or a part of it)."""
    stage = DecodeStage(decode, ClipConfig(), PreprocessConfig(), GEOMETRY, StorageConfig())
    stage.setup()
    *clips, end = stage.process(unit or unit_of(path))
    stage.close()
    return clips, end
