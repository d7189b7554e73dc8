"""The stages of the pipeline with a clock, with made-up frames, or without a model.

The engine takes them in the place of its own: a `DecodeSpec` and an `EncodeConfig` that give other
stages. No torch here: the processes that decode load this module too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from pipeline.clips import ClipShare
from pipeline.decode_task import DecodeSpec, UnitDecoder
from pipeline.decoding.cutting import CutSettings
from pipeline.encode_config import ClipEncoder, EncodeConfig
from pipeline.records import (
    Clip,
    ClipWindow,
    TokenizedClip,
    UnitEnd,
    VideoInfo,
    WorkUnit,
    stable_id,
)
from pipeline.throughput.clocks import Clock

_NUM_DIFFERENT_CLIPS = 8
_FPS = 24.0


@dataclass(frozen=True)
class ClockedDecodeSpec(DecodeSpec):
    """Decoding that notes when it worked.

    Attributes:
        clock_directory: Where.
        synthetic_clips: So many made-up clips per unit in the place of decoding; 0 decodes.
    """

    clock_directory: str = ""
    synthetic_clips: int = 0

    def stage(self) -> UnitDecoder:
        """The stage with its clock, not set up yet."""
        if self.synthetic_clips:
            inner: UnitDecoder = SyntheticDecodeStage(self.settings, self.synthetic_clips)
        else:
            inner = super().stage()
        return ClockedDecodeStage(inner, self.clock_directory)


class ClockedEncodeConfig(EncodeConfig):
    """Encoding that notes when it worked.

    Attributes:
        clock_directory: Where.
        is_null: Give fixed ids, without the model.
    """

    clock_directory: str
    is_null: bool = False

    def stage(self, tokenizer_directory: str | Path, *, use_gpu: bool = False) -> ClipEncoder:
        """The stage with its clock, not set up yet."""
        if self.is_null:
            return ClockedEncodeStage(NullEncodeStage(tokenizer_directory), self.clock_directory)
        from pipeline.encoding import EncodeStage

        inner = EncodeStage(tokenizer_directory, self, use_gpu=use_gpu)
        return ClockedEncodeStage(inner, self.clock_directory)


class _Stage(Protocol):
    """What all stages have."""

    def setup(self) -> None: ...

    def close(self) -> None: ...


StageT = TypeVar("StageT", bound=_Stage)


class _Clocked(Generic[StageT]):
    """A stage with a clock, which begins when the stage is ready."""

    _name: str

    def __init__(self, inner: StageT, clock_directory: str) -> None:
        self._inner = inner
        self._directory = clock_directory
        self._opened: Clock | None = None

    def setup(self) -> None:
        """Sets the stage up; its clock's first line says when it was ready."""
        self._inner.setup()
        self._opened = Clock(self._directory, self._name)
        self._opened.note(time.monotonic(), 0)

    def close(self) -> None:
        """Closes both."""
        self._inner.close()
        if self._opened is not None:
            self._opened.close()

    @property
    def _clock(self) -> Clock:
        assert self._opened is not None, "setup() comes first"
        return self._opened


class ClockedDecodeStage(_Clocked[UnitDecoder]):
    """Notes how long each clip took to come."""

    _name = "decode"

    def process(self, unit: WorkUnit) -> Iterator[Clip | UnitEnd]:
        """See `UnitDecoder`."""
        records = self._inner.process(unit)
        while True:
            began_s = time.monotonic()
            record = next(records, None)
            if record is None:
                return
            self._clock.note(began_s, int(isinstance(record, Clip)))
            yield record


class _DeviceEncoder(ClipEncoder, Protocol):
    """An encoder that says how long a GPU has worked for it."""

    @property
    def device_busy_s(self) -> float:
        """Seconds so far; 0 on a CPU."""


class ClockedEncodeStage(_Clocked[_DeviceEncoder]):
    """Notes how long each batch took, and what a GPU has done so far."""

    _name = "encode"

    def process(self, clips: Sequence[Clip]) -> list[TokenizedClip]:
        """See `ClipEncoder`."""
        began_s = time.monotonic()
        tokens = self._inner.process(clips)
        self._clock.note(began_s, len(tokens), self._inner.device_busy_s)
        return tokens


class NullEncodeStage:
    """Fixed ids of the right number for every clip: what remains is everything but the encoder."""

    device_busy_s = 0.0

    def __init__(self, tokenizer_directory: str | Path) -> None:
        self._directory = tokenizer_directory
        self._ids: tuple[np.ndarray, np.ndarray] | None = None

    def setup(self) -> None:
        """See `ClipEncoder`."""
        from sweettok import SweetTokConfig
        from sweettok.tokenizer_manifest import read_manifest

        manifest = read_manifest(self._directory)
        model = SweetTokConfig.from_mapping(manifest["config"], origin=str(self._directory))
        self._ids = (
            np.arange(model.num_spatial_tokens, dtype=np.int16) % model.num_spatial_words,
            np.arange(model.num_temporal_tokens, dtype=np.int16) % model.num_temporal_words,
        )

    def process(self, clips: Sequence[Clip]) -> list[TokenizedClip]:
        """See `ClipEncoder`."""
        assert self._ids is not None, "setup() comes first"
        spatial, temporal = self._ids
        return [
            TokenizedClip(clip.unit, clip.window, clip.source, spatial, temporal) for clip in clips
        ]

    def close(self) -> None:
        """Nothing to release."""


class SyntheticDecodeStage:
    """Clips of noise, made once: what remains is everything but the decoder.

    Args:
        settings: The clips' shape.
        num_clips: Clips of each unit.
    """

    def __init__(self, settings: CutSettings, num_clips: int) -> None:
        self._shape = settings.clip_shape
        self._num_clips = num_clips
        self._frames: list[np.ndarray] = []

    def setup(self) -> None:
        """See `UnitDecoder`."""
        random = np.random.default_rng(0)
        self._frames = [
            random.integers(0, 256, self._shape, np.uint8) for _ in range(_NUM_DIFFERENT_CLIPS)
        ]

    def process(self, unit: WorkUnit) -> Iterator[Clip | UnitEnd]:
        """See `UnitDecoder`."""
        length, height_px, width_px, _ = self._shape
        num_frames = length * self._num_clips
        source = VideoInfo(width_px, height_px, _FPS, num_frames, num_frames / _FPS, "none", "none")
        share = range(self._num_clips)[
            ClipShare(unit.part_index, unit.num_parts).of(self._num_clips)
        ]
        for index in share:
            first = index * length
            window = ClipWindow(
                index, tuple(range(first, first + length)), first / _FPS, (first + length) / _FPS
            )
            yield Clip(unit, window, source, self._frames[index % _NUM_DIFFERENT_CLIPS])
        yield UnitEnd(unit, len(share))

    def close(self) -> None:
        """Nothing to release."""


def synthetic_units(num_units: int) -> list[WorkUnit]:
    """Units for `SyntheticDecodeStage`; there is no file behind them."""
    uris = [f"synthetic://{number:06}" for number in range(num_units)]
    return [
        WorkUnit(stable_id("video", uri), uri, stable_id("fingerprint", uri), size_bytes=1)
        for uri in uris
    ]
