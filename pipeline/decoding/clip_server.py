"""The child's side of isolated decoding: cuts one file at a time, one clip per shared slot."""

from __future__ import annotations

import mmap
import signal
from collections import deque
from dataclasses import asdict
from math import ceil
from multiprocessing.connection import Connection

import numpy as np

from pipeline.clips import ClipShare
from pipeline.decoding import messages
from pipeline.decoding.cutting import CutClip, CutSettings, InProcessCutter
from pipeline.decoding.interface import DecodeError
from pipeline.errors import RecordError

# The parent enforces the deadline; this only ends a hanging child whose parent was killed.
_ORPHAN_GRACE_S = 5


class ClipServer:
    """Answers the parent's requests until the parent goes."""

    def __init__(self, connection: Connection, memory_fd: int) -> None:
        self._connection = connection
        self._settings: CutSettings = messages.settings_from_message(messages.receive(connection))
        num_slots = self._settings.decode.clips_in_flight
        memory = mmap.mmap(memory_fd, num_slots * self._settings.clip_bytes)
        self._slots = np.frombuffer(memory, np.uint8).reshape(num_slots, *self._settings.clip_shape)
        self._free_slots: deque[int] = deque(range(num_slots))
        self._cutter = InProcessCutter(self._settings)
        messages.send(connection, {"kind": "ready"})

    def run(self) -> None:
        """Serves requests; returns when the parent has closed its end."""
        while True:
            message = messages.receive(self._connection)
            if message["kind"] == "release":
                self._free_slots.append(message["slot"])
            else:
                self._serve(message)

    def _serve(self, request: messages.Message) -> None:
        after = request["after"] and messages.window_from_message(request["after"])
        share = ClipShare(**request["share"])
        self._arm_alarm()
        try:
            for clip in self._cutter.cut(request["decoder"], request["path"], after, share):
                self._hand_over(clip)
            answer: messages.Message = {"kind": "end"}
        except RecordError as error:
            failure = DecodeError.from_error(error)
            answer = {"kind": "failure", **messages.failure_to_message(failure)}
        signal.alarm(0)
        messages.send(self._connection, answer)

    def _hand_over(self, clip: CutClip) -> None:
        signal.alarm(0)
        while not self._free_slots:
            self._free_slots.append(messages.receive(self._connection)["slot"])
        slot = self._free_slots.popleft()
        self._slots[slot] = clip.frames
        message = {
            "kind": "clip",
            "slot": slot,
            "source": asdict(clip.source),
            "window": asdict(clip.window),
        }
        messages.send(self._connection, message)
        self._arm_alarm()

    def _arm_alarm(self) -> None:
        # The signal's default action ends the process even while C code holds the interpreter.
        signal.alarm(ceil(self._settings.decode.deadline_s) + _ORPHAN_GRACE_S)
