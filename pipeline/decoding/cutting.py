"""One file, one decoder, one pass: decoder + windows + preprocessing → clips, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from pipeline.clips import (
    ALL_CLIPS,
    ClipConfig,
    ClipPlan,
    ClipShare,
    gather_clips,
    needed_frames,
    new_clip,
    plan_windows,
)
from pipeline.decoding.decord_decoder import DecordDecoder
from pipeline.decoding.interface import DecodeConfig, DecoderName, VideoDecoder
from pipeline.decoding.nvdec_decoder import NvdecDecoder, check_nvdec
from pipeline.decoding.pyav_decoder import PyAVDecoder, PyAVTwoPassDecoder
from pipeline.decoding.torchcodec_decoder import TorchCodecDecoder, load_torchcodec
from pipeline.errors import QuarantineReason, RecordError
from pipeline.preprocessing import FramePreprocessor, PreprocessConfig
from pipeline.records import ClipWindow, VideoInfo
from sweettok.geometry import ClipGeometry

_DECODERS: dict[DecoderName, type[PyAVDecoder] | type[DecordDecoder] | type[TorchCodecDecoder]] = {
    "torchcodec_cuda": NvdecDecoder,
    "pyav": PyAVDecoder,
    "pyav_two_pass": PyAVTwoPassDecoder,
    "decord": DecordDecoder,
    "torchcodec": TorchCodecDecoder,
}


@dataclass(frozen=True, slots=True)
class CutSettings:
    """Everything that decides which pixels a file gives; small and picklable."""

    decode: DecodeConfig
    clips: ClipConfig
    preprocess: PreprocessConfig
    geometry: ClipGeometry

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Shape of a clip's pixels: frames, height, width, RGB."""
        return (self.geometry.num_frames, self.geometry.height_px, self.geometry.width_px, 3)

    @property
    def clip_bytes(self) -> int:
        """Size of a clip's pixels in bytes."""
        return prod(self.clip_shape)


@dataclass(frozen=True, slots=True)
class CutClip:
    """A clip that does not know its work unit yet.

    Attributes:
        source: What the decoder said of the video.
        window: Which frames it holds.
        frames: uint8 array [num_frames, height, width, 3], RGB, in [0, 255].
    """

    source: VideoInfo
    window: ClipWindow
    frames: UInt8[np.ndarray, "num_frames height width 3"]


class FileCutter(Protocol):
    """Cuts one file with one decoder, here or in another process."""

    def cut(
        self,
        decoder_name: DecoderName,
        path: str,
        after: ClipWindow | None = None,
        share: ClipShare = ALL_CLIPS,
    ) -> Iterator[CutClip]:
        """Yields the clips of `path` in order: those of `share` that come after `after`.

        Raises:
            RecordError: The file's own fault; also when this decoder would not have cut `after`.
        """

    def close(self) -> None:
        """Releases everything; safe to call twice."""


class InProcessCutter:
    """A `FileCutter` in this process: no deadline, and a crash of the decoder is ours."""

    def __init__(
        self,
        settings: CutSettings,
        new_clip: Callable[[tuple[int, ...]], np.ndarray] = new_clip,
    ) -> None:
        """Remembers the settings and loads what they ask for.

        Args:
            settings: What to cut, and how.
            new_clip: Gives the memory in which a clip of a shape is gathered.

        Raises:
            PipelineError: A decoder that is named cannot be loaded here.
        """
        self._settings = settings
        self._new_clip = new_clip
        if "torchcodec" in settings.decode.decoders:
            load_torchcodec()
        if "torchcodec_cuda" in settings.decode.decoders:
            check_nvdec()

    def cut(
        self,
        decoder_name: DecoderName,
        path: str,
        after: ClipWindow | None = None,
        share: ClipShare = ALL_CLIPS,
    ) -> Iterator[CutClip]:
        """See `FileCutter.cut`."""
        settings = self._settings
        geometry = settings.geometry
        preprocess = FramePreprocessor(settings.preprocess, geometry.height_px, geometry.width_px)
        with open_decoder(decoder_name, path, settings.decode) as decoder:
            timeline = decoder.timeline()
            planned = plan_windows(
                timeline.frame_times_s, timeline.end_s, geometry.num_frames, settings.clips
            )
            windows = _windows_after(planned, after, share)
            frames = decoder.read_frames(needed_frames(windows), preprocess)
            for window, pixels in gather_clips(frames, windows, self._new_clip):
                yield CutClip(decoder.info, window, pixels)

    def close(self) -> None:
        """Nothing outlives a file."""


def open_decoder(name: DecoderName, path: str, config: DecodeConfig) -> VideoDecoder:
    """Opens the local file `path` with the named implementation.

    Raises:
        RecordError: The file's own fault.
    """
    return _DECODERS[name](path, config)


def _windows_after(planned: ClipPlan, after: ClipWindow | None, share: ClipShare) -> ClipPlan:
    """The windows of `share` after `after`, a window that another decoder has cut before."""
    whole = share.of(len(planned))
    if after is None:
        return planned[whole]
    if after not in planned[after.clip_index : after.clip_index + 1]:
        raise RecordError(
            QuarantineReason.UNDECODABLE,
            "this decoder gives other frame times than the one that cut the first clips",
        )
    return planned[after.clip_index + 1 : whole.stop]
