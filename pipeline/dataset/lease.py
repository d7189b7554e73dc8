"""Who refreshes a dataset: one process at a time, on any store that decides who creates a file.

Whoever creates `_lease/<number>.json` with the next number holds the dataset. The holder rewrites
its own file now and then, which nobody else ever writes, and marks it at the end as given back. A
holder that was not heard of for too long has died: the next number is free to take.

The largest number is never deleted, so numbers only grow; a process that was stopped for an hour
between looking and creating finds a larger number than its own and leaves.

The dataset itself is safe without this: commits are compare-and-swap. The lease keeps a second
refresh from doing the same work once more.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Self

import pydantic

from pipeline.conditional_files import ConditionalFiles, conditional_files
from pipeline.errors import DatasetBusyError, DatasetError
from pipeline.storage import StorageConfig, normalized_uri
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

FOLDER = "_lease"
_LOOKS = 10
_BEATS_PER_EXPIRY = 3


class LeaseConfig(StrictConfig):
    """How a refresh says that it is alive; the same for all refreshes of one dataset.

    Attributes:
        heartbeat_s: Seconds between two signs of life.
        expires_after_s: Silence after which a holder counts as dead, in seconds. The clocks of
            the machines must agree to within a fraction of it.
    """

    heartbeat_s: float = pydantic.Field(default=20, gt=0)
    expires_after_s: float = pydantic.Field(default=300, gt=0)

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.expires_after_s < _BEATS_PER_EXPIRY * self.heartbeat_s:
            raise ValueError(
                f"expires_after_s must be at least {_BEATS_PER_EXPIRY} times heartbeat_s: one late "
                "sign of life is no death"
            )
        return self


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lease file says.

    Attributes:
        owner: Which process on which machine, for people.
        nonce: Tells this file from any other that could be written.
        started_at: When it took the dataset, in UTC.
        heard_at_s: Its last sign of life, in seconds since 1970.
        expires_after_s: Silence after which it counts as dead, in seconds.
        is_given_back: Whether it has ended.
    """

    owner: str
    nonce: str
    started_at: str
    heard_at_s: float
    expires_after_s: float
    is_given_back: bool = False

    @property
    def silence_s(self) -> float:
        """Seconds since its last sign of life."""
        return max(0.0, time.time() - self.heard_at_s)

    @property
    def is_alive(self) -> bool:
        """Whether the dataset is still its own."""
        return not self.is_given_back and self.silence_s < self.expires_after_s

    def to_json(self) -> bytes:
        """The file's content."""
        return (json.dumps(asdict(self)) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Holder:
        """Reads what `to_json` wrote.

        Raises:
            DatasetError: The file says something else.
        """
        try:
            holder = cls(**json.loads(content))
            return replace(
                holder,
                heard_at_s=float(holder.heard_at_s),
                expires_after_s=float(holder.expires_after_s),
            )
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{where} is no lease ({error}); delete the file") from None


@contextmanager
def held_lease(uri: str, storage: StorageConfig, config: LeaseConfig) -> Iterator[None]:
    """Holds the dataset at `uri`, which need not exist yet, while the context lasts.

    Taken over by another refresh (after a silence, or a stop of this machine), the main thread is
    interrupted as by Ctrl-C, so that what is finished is still committed. (In a program that hears
    neither SIGINT nor SIGTERM the loss is an error at the end.)

    Raises:
        DatasetBusyError: Another refresh holds the dataset, or has taken it over.
        DatasetError: The store refuses.
    """
    lease = _Lease(normalized_uri(uri), storage, config)
    lease.take()
    try:
        yield
        lease.check()
    except KeyboardInterrupt:
        lease.check()
        raise
    finally:
        lease.give_back()


class _Lease:
    def __init__(self, uri: str, storage: StorageConfig, config: LeaseConfig) -> None:
        self._uri = uri
        self._config = config
        self._files: ConditionalFiles = conditional_files(f"{uri}/{FOLDER}", storage)
        self._number = 0
        self._me = Holder(
            owner=f"{socket.gethostname()}, process {os.getpid()}",
            nonce=uuid.uuid4().hex,
            started_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            heard_at_s=time.time(),
            expires_after_s=config.expires_after_s,
        )
        self._loss: str | None = None
        self._is_over = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)

    def take(self) -> None:
        """Takes the dataset if nobody has it."""
        earlier, holder = self._latest()
        if holder is not None and holder.is_alive:
            raise DatasetBusyError(self._refusal(holder))
        if holder is not None and not holder.is_given_back:
            logger.warning(
                "the refresh by %s was not heard of for %.0f s; taking over",
                holder.owner,
                holder.silence_s,
            )
        self._number = earlier + 1
        if not self._files.create(_name(self._number), self._alive()):
            raise DatasetBusyError(f"{self._uri}: another refresh began at the same moment")
        numbers = self._numbers()
        if numbers[-1] > self._number:
            self._files.delete(_name(self._number))
            raise DatasetBusyError(f"{self._uri}: another refresh began meanwhile")
        for number in numbers[:-1]:
            self._files.delete(_name(number))
        self._beats.start()

    def check(self) -> None:
        """Raises if the dataset was lost."""
        if self._loss is not None:
            raise DatasetBusyError(self._loss) from None

    def give_back(self) -> None:
        """Lets the next one in; safe also after a loss."""
        self._is_over.set()
        self._beats.join()
        if self._loss is None:
            ended = replace(self._me, heard_at_s=time.time(), is_given_back=True)
            try:
                self._files.replace(_name(self._number), ended.to_json())
            except DatasetError as error:
                logger.warning("the lease could not be given back, it expires: %s", error)

    def _latest(self) -> tuple[int, Holder | None]:
        for _ in range(_LOOKS):
            numbers = self._numbers()
            if not numbers:
                return 0, None
            name = _name(numbers[-1])
            content = self._files.read(name)
            if content is not None:  # else it was replaced by a later one since
                return numbers[-1], Holder.from_json(content, f"{self._uri}/{FOLDER}/{name}")
        raise DatasetBusyError(f"{self._uri}: other refreshes begin and end all the time")

    def _numbers(self) -> list[int]:
        stems = (name.removesuffix(".json") for name in self._files.names())
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _alive(self) -> bytes:
        return replace(self._me, heard_at_s=time.time()).to_json()

    def _beat(self) -> None:
        heard_s = time.monotonic()
        while not self._is_over.wait(self._config.heartbeat_s):
            try:
                if self._numbers()[-1:] != [self._number]:
                    self._lose(f"{self._uri}: another refresh has taken over, this one ends")
                    return
                self._files.replace(_name(self._number), self._alive())
                heard_s = time.monotonic()
            except DatasetError as error:
                silence_s = time.monotonic() - heard_s
                logger.warning("no sign of life for %.0f s: %s", silence_s, error)
                if silence_s > self._config.expires_after_s - self._config.heartbeat_s:
                    self._lose(f"the lease cannot be kept, this refresh ends: {error}")
                    return

    def _lose(self, loss: str) -> None:
        self._loss = loss
        main = threading.main_thread().ident
        assert main is not None
        # What a shell script starts in the background ignores SIGINT; a job then hears SIGTERM.
        for interruption in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(interruption)):
                signal.pthread_kill(main, interruption)
                return

    def _refusal(self, holder: Holder) -> str:
        left_s = holder.expires_after_s - holder.silence_s
        return (
            f"{self._uri}: another refresh is under way, by {holder.owner} since "
            f"{holder.started_at}; this one leaves. If that one has died, the dataset is free in "
            f"{left_s:.0f} s"
        )


def _name(number: int) -> str:
    return f"{number:08}.json"
