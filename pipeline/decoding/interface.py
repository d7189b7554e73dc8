"""What a video decoder is: the settings, the timeline, the protocol and its failures."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from jaxtyping import Float64, UInt8
from pydantic import Field, model_validator

from pipeline.errors import QuarantineReason, RecordError
from pipeline.preprocessing import FramePreprocessor
from pipeline.records import VideoInfo
from sweettok.strict_config import StrictConfig

DecoderName = Literal["pyav", "pyav_two_pass", "decord", "torchcodec", "torchcodec_cuda"]
PartBytes = Annotated[int, Field(ge=1)] | Literal["auto"] | None

_GPU_DECODERS = frozenset({"torchcodec_cuda"})
_NUM_GPUS_PER_TASK = 0.1


class DecodeConfig(StrictConfig):
    """How videos are decoded, and how much one file may cost.

    Attributes:
        decoders: Implementations in the order in which they are tried; "torchcodec" is an optional
            one (`pip install 'sweettok[torchcodec]'` and FFmpeg's shared libraries), and
            "torchcodec_cuda" is the same on a GPU's video decoder.
        isolation: "process" decodes in a child process, where a hang or a crash costs one file;
            "none" decodes in this process, where the deadline cannot be enforced.
        deadline_s: Longest time one decoder may take to the next clip of a file, opening it and
            looking for the first frame included, in seconds.
        clips_in_flight: Finished clips that wait between the child and its consumer at most.
        num_threads: Decoding threads per file; 1 suits many files decoded side by side.
        num_gpus_per_task: GPU share that a decode task reserves; null reserves a tenth if a decoder
            on a GPU is named, and none otherwise. Encoders must leave room for it: see
            `encode.num_gpus_per_actor`.
        max_pixels_per_frame: Larger frames are refused before their memory is asked for.
        max_frames: Videos of more frames are refused while they are counted.
        max_duration_s: Longer videos are refused, in seconds.
        max_memory_bytes: Memory that the decoding child may ask for, where no decoder on a GPU is
            named; a file that needs more is quarantined. Frames of the largest size need half.
        max_file_bytes: Larger files are refused unread, and never downloaded.
        part_bytes: Larger files are tokenized in parts of about this size, each by whichever
            worker is free; every part reads (or downloads) the file, but decodes its own clips
            only. "auto" is as small as keeps all workers busy to the end, at most 512 MiB; null
            never splits.
    """

    decoders: tuple[DecoderName, ...] = Field(
        default=("pyav", "pyav_two_pass", "decord"), min_length=1
    )
    isolation: Literal["process", "none"] = "process"
    deadline_s: float = Field(default=300.0, gt=0)
    clips_in_flight: int = Field(default=4, ge=1, le=64)
    num_threads: int = Field(default=1, ge=1)
    num_gpus_per_task: float | None = Field(default=None, ge=0, le=1)
    max_pixels_per_frame: int = Field(default=8192 * 4352, ge=1)
    max_frames: int = Field(default=20_000_000, ge=1)
    max_duration_s: float = Field(default=7 * 86400, gt=0)
    max_memory_bytes: int = Field(default=4 * 2**30, ge=256 * 2**20)
    max_file_bytes: int = Field(default=16 * 2**30, ge=1)
    part_bytes: PartBytes = "auto"

    @property
    def num_gpus(self) -> float:
        """GPU share that a decode task must have; 0 if all decoders run on the CPU."""
        if self.num_gpus_per_task is not None:
            return self.num_gpus_per_task
        return _NUM_GPUS_PER_TASK if self._names_gpu_decoder else 0.0

    @property
    def _names_gpu_decoder(self) -> bool:
        return not _GPU_DECODERS.isdisjoint(self.decoders)

    @model_validator(mode="after")
    def _check_gpu_share(self) -> Self:
        if (self.num_gpus > 0) != self._names_gpu_decoder:
            raise ValueError(
                f"num_gpus_per_task is {self.num_gpus:g} with decoders {list(self.decoders)}: "
                "torchcodec_cuda needs a share of a GPU, and without it none is used; leave "
                "num_gpus_per_task out"
            )
        return self


class DecodeError(RecordError):
    """A record error that remembers what the quarantine row tells of it.

    Attributes:
        error_class: Name of the underlying exception's class.
        attempts: How many decoders tried.
        is_final: The file itself is damaged, as far as this decoder can tell for sure: another
            one could only overlook it.
    """

    def __init__(
        self,
        reason: QuarantineReason,
        message: str,
        *,
        stage: str = "decode",
        error_class: str = "RecordError",
        attempts: int = 1,
        is_final: bool = False,
    ) -> None:
        super().__init__(reason, message, stage=stage)
        self.error_class = error_class
        self.attempts = attempts
        self.is_final = is_final

    @classmethod
    def from_error(cls, error: RecordError, *, attempts: int = 1) -> DecodeError:
        """`error` with the class of its cause (or its own) and the number of attempts."""
        if isinstance(error, DecodeError) and error.error_class != "RecordError":
            error_class = error.error_class
        else:
            error_class = type(error.__cause__ or error).__name__
        return cls(
            error.reason,
            str(error),
            stage=error.stage,
            error_class=error_class,
            attempts=attempts,
            is_final=isinstance(error, DecodeError) and error.is_final,
        )


@dataclass(frozen=True)
class FrameTimeline:
    """When each displayed frame of a video is shown.

    Attributes:
        frame_times_s: Presentation times in seconds, non-decreasing, the first one 0.
        end_s: Time at which the last frame ends, in seconds.
    """

    frame_times_s: Float64[np.ndarray, " num_frames"]
    end_s: float

    @property
    def num_frames(self) -> int:
        """Number of displayed frames."""
        return len(self.frame_times_s)

    def __repr__(self) -> str:
        return f"FrameTimeline(num_frames={self.num_frames}, end_s={self.end_s:.3f})"


class VideoDecoder(ABC):
    """One open video. Every method raises `RecordError` for the file's own faults.

    An implementation opens the file in its constructor, applies rotation and pixel aspect, and
    gives each displayed frame exactly once: no repeats in the place of frames it cannot decode.
    """

    @property
    @abstractmethod
    def info(self) -> VideoInfo:
        """What the container says; known as soon as the file is open."""

    @abstractmethod
    def timeline(self) -> FrameTimeline:
        """The presentation time of every displayed frame, from timestamps, not from a rate."""

    @abstractmethod
    def read_frames(
        self, indices: Iterable[int], preprocess: FramePreprocessor | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        """Decodes once and yields the frames asked for as RGB in [0, 255].

        Decoding begins at the start of the file, or later where that certainly gives the same
        pixels; what no frame asked for needs is left out under the same condition.

        Args:
            indices: Display-order frame numbers of the timeline, strictly increasing.
            preprocess: Crops and resizes the frames; None gives them at their own size.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases the file; safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def check_file(path: str, config: DecodeConfig) -> None:
    """Refuses files that no decoder should be asked about.

    Raises:
        RecordError: The file is missing (NOT_FOUND), empty (EMPTY) or above the limit (TOO_LARGE).
    """
    try:
        size_bytes = os.stat(path).st_size
    except OSError as error:
        raise RecordError(
            QuarantineReason.NOT_FOUND, f"cannot be opened: {error.strerror}", stage="read"
        ) from error
    if size_bytes == 0:
        raise RecordError(QuarantineReason.EMPTY, "the file has zero bytes")
    if size_bytes > config.max_file_bytes:
        raise RecordError(
            QuarantineReason.TOO_LARGE,
            f"{size_bytes} bytes, above decode.max_file_bytes = {config.max_file_bytes}",
        )


def check_frame_size(width_px: int, height_px: int, config: DecodeConfig) -> None:
    """Refuses frames above the limit.

    Raises:
        RecordError: TOO_LARGE, or UNDECODABLE if the video has no size at all.
    """
    if width_px < 1 or height_px < 1:
        raise RecordError(
            QuarantineReason.UNDECODABLE, f"a frame size of {width_px} by {height_px} px"
        )
    if width_px * height_px > config.max_pixels_per_frame:
        raise RecordError(
            QuarantineReason.TOO_LARGE,
            f"frames of {width_px} by {height_px} px, above decode.max_pixels_per_frame = "
            f"{config.max_pixels_per_frame}",
        )
