"""The clips of one video as the protocol wants them; nothing is kept of a video that fails."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import UInt8

from pipeline.decoding.interface import DecodeConfig
from pipeline.decoding.stage import DecodeStage
from pipeline.evaluation.protocol import ProtocolConfig, video_name
from pipeline.records import Clip, Quarantine, UnitEnd, WorkUnit
from pipeline.storage import StorageConfig


@dataclass(frozen=True, eq=False)
class ReadVideo:
    """What one video gave.

    Attributes:
        name: Its folder and file.
        clips: uint8 arrays [t, h, w, 3], RGB in [0, 255], in the order of their starts.
        fault: Why there are none; None if there are.
    """

    name: str
    clips: list[UInt8[np.ndarray, "t h w 3"]]
    fault: Quarantine | None


class ClipReader:
    """Reads videos one after the other; a context, in which the decoding process lives.

    The chosen clips of one video are in memory at one time.

    Args:
        protocol: Which clips, at which size.
        decode: How videos are decoded.
        storage: How they are reached.
    """

    def __init__(
        self, protocol: ProtocolConfig, decode: DecodeConfig, storage: StorageConfig
    ) -> None:
        self._protocol = protocol
        self._stage = DecodeStage(
            decode, protocol.clips, protocol.preprocess, protocol.geometry, storage
        )

    def __enter__(self) -> Self:
        self._stage.setup()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stage.close()

    def read(self, unit: WorkUnit) -> ReadVideo:
        """The chosen clips of `unit`, or what is wrong with it."""
        name = video_name(unit)
        chosen = _Chosen(self._protocol.clips_per_video, f"{self._protocol.seed} {name}")
        fault = None
        for record in self._stage.process(unit):
            if isinstance(record, UnitEnd):
                fault = record.quarantine
            else:
                chosen.offer(record)
        return ReadVideo(name, [] if fault else list(chosen.frames()), fault)


class _Chosen:
    """Some of a stream whose length nobody knows, each one with the same chance.

    Source: Vitter, "Random sampling with a reservoir", 1985, algorithm R.
    """

    def __init__(self, count: int | None, seed: str) -> None:
        self._count = count
        self._random = random.Random(seed)
        self._kept: list[Clip] = []
        self._num_seen = 0

    def offer(self, clip: Clip) -> None:
        self._num_seen += 1
        if self._count is None or len(self._kept) < self._count:
            self._kept.append(clip)
            return
        place = self._random.randrange(self._num_seen)
        if place < self._count:
            self._kept[place] = clip

    def frames(self) -> Iterator[np.ndarray]:
        in_order = sorted(self._kept, key=lambda clip: clip.window.clip_index)
        return (np.array(clip.frames) for clip in in_order)
