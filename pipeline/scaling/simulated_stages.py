"""Stages that take the time of real ones and do nothing: made-up clips and an encoder that sleeps.

What remains is the engine: scheduling, moving, batching, committing. No torch here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from pipeline.clips import ClipConfig
from pipeline.dataset import Lineage
from pipeline.decode_task import DecodeSpec, UnitDecoder
from pipeline.decoding.cutting import CutSettings
from pipeline.decoding.interface import DecodeConfig
from pipeline.encode_config import ClipEncoder, EncodeConfig
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import Clip, TokenizedClip
from pipeline.storage import StorageConfig
from pipeline.throughput.clocks import Clock
from pipeline.throughput.variants import SyntheticDecodeStage
from sweettok.geometry import ClipGeometry

GEOMETRY = ClipGeometry(num_frames=5, height_px=32, width_px=32)
NUM_TOKENS = 16
NUM_WORDS = 1024


def simulated_lineage(name: str) -> Lineage:
    """The lineage of a dataset whose ids mean nothing."""
    return Lineage(
        weights_hash=name,
        codebook_hash=name,
        geometry=GEOMETRY,
        num_spatial_tokens=NUM_TOKENS,
        num_temporal_tokens=NUM_TOKENS,
        num_spatial_words=NUM_WORDS,
        num_temporal_words=NUM_WORDS,
        preprocessing={},
        clip_policy={},
        decoder="none",
        precision="fp32",
    )


@dataclass(frozen=True)
class MadeUpDecodeSpec(DecodeSpec):
    """Decoding without files.

    Attributes:
        clips_per_unit: Clips of noise that each unit gives.
    """

    clips_per_unit: int = 1

    @classmethod
    def of_clips(cls, clips_per_unit: int) -> MadeUpDecodeSpec:
        """The spec for units of so many clips."""
        settings = CutSettings(DecodeConfig(), ClipConfig(), PreprocessConfig(), GEOMETRY)
        return cls(settings, StorageConfig(), clips_per_unit=clips_per_unit)

    def stage(self) -> UnitDecoder:
        """The stage, not set up yet."""
        return SyntheticDecodeStage(self.settings, self.clips_per_unit)


class SleepingEncodeConfig(EncodeConfig):
    """Encoders of a known rate.

    Attributes:
        clip_s: Seconds that an encoder takes for every clip of a batch.
        clock_directory: Where each notes when it worked.
    """

    clip_s: float = pydantic.Field(gt=0)
    clock_directory: str

    def stage(self, tokenizer_directory: str | Path, *, use_gpu: bool = False) -> ClipEncoder:  # noqa: ARG002
        """The stage, not set up yet; it has no model."""
        return SleepingEncodeStage(self.clip_s, self.clock_directory)


class SleepingEncodeStage:
    """Takes its time and gives the same ids for every clip.

    Several threads may call it, as they call an encoder with a GPU; like one, it computes one
    batch at a time.

    Args:
        clip_s: Seconds per clip.
        clock_directory: Where it notes when it worked.
    """

    def __init__(self, clip_s: float, clock_directory: str) -> None:
        self._clip_s = clip_s
        self._directory = clock_directory
        self._clock: Clock | None = None
        self._device = threading.Lock()

    def setup(self) -> None:
        """See `ClipEncoder`."""
        self._clock = Clock(self._directory, "encode")
        self._clock.note(time.monotonic(), 0)

    def process(self, clips: Sequence[Clip]) -> list[TokenizedClip]:
        """See `ClipEncoder`."""
        assert self._clock is not None, "setup() comes first"
        with self._device:
            began_s = time.monotonic()
            time.sleep(self._clip_s * len(clips))
            self._clock.note(began_s, len(clips))
        ids = np.arange(NUM_TOKENS, dtype=np.int16)
        return [TokenizedClip(clip.unit, clip.window, clip.source, ids, ids) for clip in clips]

    def close(self) -> None:
        """See `ClipEncoder`."""
        if self._clock is not None:
            self._clock.close()
