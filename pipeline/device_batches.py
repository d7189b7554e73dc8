"""Batches of clips on their way to a device and their ids on the way back.

On a CPU a batch is gathered in memory that is used again, and encoded at once. On a GPU the copies
overlap with the computing:

    caller       gather n+1 ─► pinned       gather n+2 ─► pinned      ids of n
    copy stream       pixels of n+1 ─► GPU       pixels of n+2 ─► GPU
    compute stream  encode n ───────────► encode n+1 ───────────► encode n+2
                              └ ids of n ─► pinned

Pixels stay uint8 until they are on the device. Every batch there has the full size, whatever it was
filled with: one shape means one set of kernels, so that a clip's ids do not depend on how many
others happened to wait beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int16
from torch import Tensor

from pipeline.batch_queue import Started
from pipeline.errors import PipelineError
from pipeline.records import Clip
from sweettok.quantizer import refuse_missing

ClipIds: TypeAlias = Int16[np.ndarray, " tokens"]
"""Ids of one clip, spatial before temporal."""

Encode: TypeAlias = Callable[[Tensor], Tensor]
"""From pixels uint8 [b, t, h, w, c] in [0, 255] to ids int16 [b, tokens], on the same device."""

NUM_SLOTS = 3
"""Batches of a GPU: one is computed, one is queued behind it, one is being filled or read."""


@dataclass(frozen=True)
class BatchShape:
    """Sizes of a full batch.

    Attributes:
        num_clips: Clips of it.
        clip: Frames, height and width in pixels, colours.
        num_tokens: Ids of each clip.
    """

    num_clips: int
    clip: tuple[int, int, int, int]
    num_tokens: int


class HostBatches:
    """Batches that are encoded by the CPU, each before the next one is begun."""

    max_under_way = 1
    device_busy_s = 0.0

    def __init__(self, encode: Encode, shape: BatchShape) -> None:
        self._encode = encode
        self._pixels = torch.empty((shape.num_clips, *shape.clip), dtype=torch.uint8)

    def start(self, clips: Sequence[Clip]) -> Started[ClipIds]:
        """Encodes a batch, at most a full one."""
        _gather(clips, self._pixels)
        return _Finished(self._encode(self._pixels[: len(clips)]).numpy())


@dataclass(frozen=True)
class _Finished:
    ids: Int16[np.ndarray, "b tokens"]

    def results(self) -> Sequence[ClipIds]:
        """See `Started`."""
        return list(self.ids)


class CudaBatches:
    """Batches on a GPU, several of them under way.

    Attributes:
        max_under_way: How many.
        device_busy_s: Seconds in which the GPU computed the batches that were taken in, by its own
            clock.
    """

    max_under_way = NUM_SLOTS
    device_busy_s = 0.0

    def __init__(self, encode: Encode, shape: BatchShape, device: torch.device) -> None:
        self._encode = encode
        self._copying = torch.cuda.Stream(device)
        self._computing = torch.cuda.Stream(device)
        self._slots = [_Slot(shape, device) for _ in range(NUM_SLOTS)]
        self._num_started = 0
        torch.cuda.synchronize(device)  # weights and buffers are there for every stream
        self.start([]).results()  # kernels are compiled, libraries loaded, memory is taken
        self.device_busy_s = 0.0

    def start(self, clips: Sequence[Clip]) -> Started[ClipIds]:
        """Queues a batch, at most a full one; waits only for the slot that it needs.

        Raises:
            PipelineError: The GPU has no room for it.
        """
        slot = self._slots[self._num_started % NUM_SLOTS]
        self._num_started += 1
        slot.wait()  # over long ago, but after a failure nobody may have taken it in
        _gather(clips, slot.pinned)
        with room_on_gpu(len(slot.pinned)):
            self._queue(slot)
        return _Queued(self, slot, len(clips))

    def _queue(self, slot: _Slot) -> None:
        with torch.cuda.stream(self._copying):
            slot.pixels.copy_(slot.pinned, non_blocking=True)
            slot.copied.record()
        with torch.cuda.stream(self._computing):
            self._computing.wait_event(slot.copied)
            slot.began.record()
            slot.ids.copy_(self._encode(slot.pixels), non_blocking=True)
            slot.ended.record()


class _Slot:
    """The memory of one batch on both sides, and what tells how far it is."""

    def __init__(self, shape: BatchShape, device: torch.device) -> None:
        pixels = (shape.num_clips, *shape.clip)
        # Zeros: rows that no clip has filled yet are computed as well.
        self.pinned = torch.zeros(pixels, dtype=torch.uint8, pin_memory=True)
        self.pixels = torch.empty(pixels, dtype=torch.uint8, device=device)
        ids = (shape.num_clips, shape.num_tokens)
        self.ids = torch.empty(ids, dtype=torch.int16, pin_memory=True)
        # Waiting sleeps: a spinning core would be missing where frames are decoded.
        self.copied = torch.cuda.Event(blocking=True)
        self.began = torch.cuda.Event(enable_timing=True, blocking=True)
        self.ended = torch.cuda.Event(enable_timing=True, blocking=True)

    def wait(self) -> None:
        """Waits until nothing reads or writes the memory any more."""
        self.ended.synchronize()


@dataclass(frozen=True)
class _Queued:
    batches: CudaBatches
    slot: _Slot
    num_clips: int

    def results(self) -> Sequence[ClipIds]:
        """See `Started`."""
        self.slot.wait()
        self.batches.device_busy_s += self.slot.began.elapsed_time(self.slot.ended) / 1000
        ids = self.slot.ids[: self.num_clips].clone()  # the slot is used again
        refuse_missing(ids)
        return list(ids.numpy())


@contextmanager
def room_on_gpu(batch_size: int) -> Iterator[None]:
    """Turns a lack of the GPU's memory into an error with a remedy.

    Raises:
        PipelineError: What is inside found no room.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PipelineError(
            f"the GPU has no room for batches of {batch_size} clips "
            f"({str(error).splitlines()[0]}); lower encode.batch_size, or raise "
            "encode.num_gpus_per_actor so that fewer encoders share a GPU"
        ) from error


def _gather(clips: Sequence[Clip], pixels: Tensor) -> None:
    """Copies the clips' frames to the first rows of `pixels`: the one copy that the host makes."""
    rows = pixels.numpy()
    for row, clip in zip(rows, clips, strict=False):
        np.copyto(row, clip.frames)
