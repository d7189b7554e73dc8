"""Memory that the decoding child and its parent share: a finished clip is never copied to cross.

The child gathers each clip in a slot of its own, and the parent lends that slot to its consumer as
an ordinary array. When nobody holds the array any more, the slot goes back. There is one slot more
than `decode.clips_in_flight`: the one that is being filled.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from math import prod

import numpy as np
from jaxtyping import UInt8

from pipeline.decoding.cutting import CutSettings

# The child needs one to fill and one to hand over what it had to gather elsewhere.
_KEPT_FOR_THE_CHILD = 2


def num_slots(settings: CutSettings) -> int:
    """How many clips the shared memory holds."""
    return settings.decode.clips_in_flight + 1


def memory_bytes(settings: CutSettings) -> int:
    """Size of the shared memory."""
    return num_slots(settings) * settings.clip_bytes


class SlotsToFill:
    """The child's side: where its clips are gathered."""

    def __init__(self, memory: mmap.mmap, settings: CutSettings) -> None:
        shape = (num_slots(settings), *settings.clip_shape)
        self._slots = np.frombuffer(memory, np.uint8, prod(shape)).reshape(shape)
        self._free: deque[int] = deque(range(len(self._slots)))
        self._being_filled: set[int] = set()

    @property
    def num_free(self) -> int:
        """Slots that hold no clip."""
        return len(self._free)

    @property
    def is_short(self) -> bool:
        """Whether the next clip would be gathered in memory of the child's own."""
        # Clips of overlapping windows are gathered at the same time. The last free slot is for
        # those gathered elsewhere: taken by a later one, it would never come free for them.
        return len(self._free) < _KEPT_FOR_THE_CHILD

    def new_clip(self, shape: tuple[int, ...]) -> UInt8[np.ndarray, "num_frames height width 3"]:
        """Memory to gather a clip in."""
        assert shape == self._slots.shape[1:], f"{shape} is not the shape of the slots"
        if self.is_short:
            return np.empty(shape, np.uint8)
        slot = self._free.popleft()
        self._being_filled.add(slot)
        return self._slots[slot]

    def filled(self, frames: UInt8[np.ndarray, "num_frames height width 3"]) -> int:
        """The slot that holds the finished clip `frames`; one must be free for a clip of elsewhere.

        Args:
            frames: What `new_clip` gave, filled.
        """
        slot, rest = divmod(frames.ctypes.data - self._slots.ctypes.data, frames.nbytes)
        if rest == 0 and slot in self._being_filled:
            self._being_filled.remove(slot)
            return slot
        slot = self._free.popleft()
        self._slots[slot] = frames
        return slot

    def release(self, slot: int) -> None:
        """Takes back a slot that nobody needs any more."""
        self._free.append(slot)

    def give_up_unfinished(self) -> None:
        """Frees the slots of clips that will never be finished."""
        self._free.extend(self._being_filled)
        self._being_filled.clear()


class LentSlots:
    """The parent's side: clips as arrays over their slots."""

    def __init__(self, memory: mmap.mmap, settings: CutSettings) -> None:
        self._memory = memory
        self._clip_shape = settings.clip_shape
        self._clip_bytes = settings.clip_bytes
        self._max_lent = num_slots(settings) - _KEPT_FOR_THE_CHILD
        self._lent: set[int] = set()
        self._returned: deque[int] = deque()

    def clip(self, slot: int) -> UInt8[np.ndarray, "num_frames height width 3"]:
        """The clip in `slot`: the slot itself, or a copy if its consumer holds many already."""
        pixels = np.frombuffer(self._memory, np.uint8, self._clip_bytes, slot * self._clip_bytes)
        if len(self._lent) >= self._max_lent:
            self._returned.append(slot)
            return pixels.reshape(self._clip_shape).copy()
        self._lent.add(slot)
        # Every view of a clip, however small, holds `pixels`. The end may come in any thread and
        # at any time, so it only leaves a note.
        weakref.finalize(pixels, self._returned.append, slot).atexit = False
        return pixels.reshape(self._clip_shape)

    def take_returned(self) -> list[int]:
        """Slots that nobody holds any more, each told once."""
        slots = [self._returned.popleft() for _ in range(len(self._returned))]
        self._lent.difference_update(slots)
        return slots
