"""The child's side of isolated decoding: cuts one file at a time, one clip per shared slot."""

from __future__ import annotations

import mmap
import signal
from math import ceil
from multiprocessing.connection import Connection

import numpy as np
from jaxtyping import UInt8

from pipeline.clips import ClipShare
from pipeline.decoding import messages
from pipeline.decoding.cutting import CutClip, CutSettings, InProcessCutter
from pipeline.decoding.interface import DecodeError
from pipeline.decoding.slots import SlotsToFill, memory_bytes
from pipeline.errors import RecordError
from pipeline.records import plain_fields

# The parent enforces the deadline; this only ends a hanging child whose parent was killed.
_ORPHAN_GRACE_S = 5


class ClipServer:
    """Answers the parent's requests until the parent goes."""

    def __init__(self, connection: Connection, memory_fd: int) -> None:
        self._connection = connection
        self._settings: CutSettings = messages.settings_from_message(messages.receive(connection))
        memory = mmap.mmap(memory_fd, memory_bytes(self._settings))
        self._slots = SlotsToFill(memory, self._settings)
        self._cutter = InProcessCutter(self._settings, self._new_clip)
        messages.send(connection, {"kind": "ready"})

    def run(self) -> None:
        """Serves requests; returns when the parent has closed its end."""
        while True:
            message = messages.receive(self._connection)
            if message["kind"] == "release":
                self._slots.release(message["slot"])
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
        self._slots.give_up_unfinished()
        messages.send(self._connection, answer)

    def _new_clip(self, shape: tuple[int, ...]) -> UInt8[np.ndarray, "num_frames height width 3"]:
        while self._slots.is_short and self._connection.poll():
            self._await_release()
        return self._slots.new_clip(shape)

    def _hand_over(self, clip: CutClip) -> None:
        signal.alarm(0)
        while not self._slots.num_free:
            self._await_release()
        message = {
            "kind": "clip",
            "slot": self._slots.filled(clip.frames),
            "source": plain_fields(clip.source),
            "window": plain_fields(clip.window),
        }
        messages.send(self._connection, message)
        self._arm_alarm()

    def _await_release(self) -> None:
        self._slots.release(messages.receive(self._connection)["slot"])

    def _arm_alarm(self) -> None:
        # The signal's default action ends the process even while C code holds the interpreter.
        signal.alarm(ceil(self._settings.decode.deadline_s) + _ORPHAN_GRACE_S)
