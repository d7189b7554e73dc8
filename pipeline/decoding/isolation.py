"""Decoding in a child process: a file may hang or crash its decoder, but nothing else.

The child is started on the first file and serves all following ones. Pixels come through shared
memory that has no name (nothing is left behind, whoever is killed), everything else as JSON
through a socket. A child that misses the deadline is killed and a fresh one serves the next file.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import IO

from pipeline.clips import ALL_CLIPS, ClipShare
from pipeline.decoding import messages
from pipeline.decoding.cutting import CutClip, CutSettings
from pipeline.decoding.interface import DecoderName
from pipeline.decoding.limits import limit_memory
from pipeline.decoding.slots import LentSlots, memory_bytes
from pipeline.errors import PipelineError, QuarantineReason, RecordError
from pipeline.records import ClipWindow, plain_fields
from sweettok.uri_secrets import is_secret_name

_START_TIMEOUT_S = 120.0
_STDERR_TAIL_BYTES = 4096


class IsolatedCutter:
    """A `FileCutter` whose decoding happens in a child process.

    At most `decode.clips_in_flight` finished clips wait for the consumer; then the child pauses.
    `decode.deadline_s` is the longest time for which the consumer waits for the next clip. Pixels
    lie in memory shared with the child and stay what they are for as long as anybody holds them.
    """

    def __init__(self, settings: CutSettings) -> None:
        self._settings = settings
        self._child: _Child | None = None

    @property
    def child_pid(self) -> int | None:
        """Process id of the running child; None before the first file and after a kill."""
        return self._child.process.pid if self._child else None

    def start(self) -> None:
        """Starts the child ahead of the first file, without waiting until it is ready.

        Raises:
            PipelineError: The child cannot be started at all.
        """
        self._started_child()

    def cut(
        self,
        decoder_name: DecoderName,
        path: str,
        after: ClipWindow | None = None,
        share: ClipShare = ALL_CLIPS,
    ) -> Iterator[CutClip]:
        """See `FileCutter.cut`.

        Raises:
            RecordError: Also DEADLINE_EXCEEDED and DECODER_CRASH.
            PipelineError: The child cannot be started at all.
        """
        child = self._started_child()
        is_finished = False
        try:
            child.await_ready()
            child.send(
                {
                    "kind": "cut",
                    "decoder": decoder_name,
                    "path": path,
                    "after": plain_fields(after) if after else None,
                    "share": asdict(share),
                }
            )
            while True:
                message = child.receive(self._settings.decode.deadline_s)
                if message["kind"] == "clip":
                    yield child.take_clip(message)
                    continue
                is_finished = True
                if message["kind"] == "failure":
                    raise messages.failure_from_message(message)
                return
        finally:
            # Anything but an orderly end leaves a child in the middle of a file.
            if not is_finished:
                self.close()

    def _started_child(self) -> _Child:
        self._child = self._child or _Child(self._settings)
        return self._child

    def close(self) -> None:
        """Ends the child; safe to call twice. A later `cut` starts a fresh one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()


class _Child:
    """One child process and the parent's ends of what it shares with it."""

    def __init__(self, settings: CutSettings) -> None:
        self._settings = settings
        num_bytes = memory_bytes(settings)
        memory_fd = _anonymous_file(num_bytes)
        ours, theirs = socket.socketpair()
        # A file rather than a pipe: it never fills up, and only its end is ever read.
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the child)
        try:
            self._slots = LentSlots(mmap.mmap(memory_fd, num_bytes), settings)
            self._connection = Connection(ours.detach())
            self.process = _spawn(theirs.fileno(), memory_fd, self._stderr)
        except OSError as error:
            raise PipelineError(f"the decoding process cannot start: {error}") from error
        finally:
            os.close(memory_fd)
            theirs.close()
        # Runs when the child is forgotten and when this interpreter ends.
        self.kill = weakref.finalize(self, _end, self.process, self._connection)
        limit_memory(self.process.pid, settings.decode)
        self._is_ready = False

    def await_ready(self) -> None:
        """Waits, the first time, until the child has loaded what it needs."""
        if self._is_ready:
            return
        try:
            self.send({"kind": "settings", **messages.settings_to_message(self._settings)})
            answer = self.receive(_START_TIMEOUT_S)
        except RecordError as error:
            detail = self._stderr_tail()
            self.kill()
            raise PipelineError(
                f"the decoding process cannot start: {detail or error}; "
                "set decode.isolation to none to see the error in this process"
            ) from None
        if answer["kind"] == "refusal":
            self.kill()
            raise PipelineError(answer["message"])
        self._is_ready = True

    def send(self, message: messages.Message) -> None:
        try:
            messages.send(self._connection, message)
        except OSError:
            raise self._crash() from None

    def receive(self, timeout_s: float) -> messages.Message:
        for slot in self._slots.take_returned():
            self.send({"kind": "release", "slot": slot})
        try:
            if self._connection.poll(max(0.0, timeout_s)):
                return messages.receive(self._connection)
        except (EOFError, OSError):
            raise self._crash() from None
        raise RecordError(
            QuarantineReason.DEADLINE_EXCEEDED,
            f"no clip within decode.deadline_s = {self._settings.decode.deadline_s} s",
        )

    def take_clip(self, message: messages.Message) -> CutClip:
        """The clip of a message, over its slot in the shared memory."""
        return CutClip(
            messages.info_from_message(message["source"]),
            messages.window_from_message(message["window"]),
            self._slots.clip(message["slot"]),
        )

    def _crash(self) -> RecordError:
        status = self.process.wait()
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
        detail = self._stderr_tail()
        return RecordError(
            QuarantineReason.DECODER_CRASH,
            f"the decoding process died ({how}){': ' + detail if detail else ''}",
        )

    def _stderr_tail(self) -> str:
        """The last line that the child wrote for people; the reason, if it died in Python."""
        size_bytes = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size_bytes - _STDERR_TAIL_BYTES))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


def _spawn(socket_fd: int, memory_fd: int, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts the child as a program of its own.

    Not through multiprocessing, which would import the parent's main module again, and with it
    all that a job or a worker of the engine imports.
    """
    python_path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    # It opens local files only: what it reads must not find the store's credentials beside it.
    inherited = {name: value for name, value in os.environ.items() if not is_secret_name(name)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "pipeline.decoding.child", str(socket_fd), str(memory_fd)],
        pass_fds=(socket_fd, memory_fd),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env={**inherited, "PYTHONPATH": python_path},
    )


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    connection.close()
    process.kill()
    process.wait()


def _anonymous_file(num_bytes: int) -> int:
    """A file descriptor of memory without a name; an unlinked file where there is none."""
    if hasattr(os, "memfd_create"):
        memory_fd = os.memfd_create("clips", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            memory_fd = os.dup(file.fileno())
    os.ftruncate(memory_fd, num_bytes)
    return memory_fd
