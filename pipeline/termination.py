"""SIGTERM, with which schedulers end a job, as the interruption that it is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """While the context lasts, SIGTERM does what Ctrl-C does: it raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except SystemExit as stop:
        # While Ray comes up its own handler is in place, which raises this.
        if stop.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def own_handler_kept() -> Iterator[None]:
    """Puts the handler of SIGTERM back that the block replaces, if the program has one of its own.

    For Ray's start: its handler prints the stack and aborts the process three seconds later, in
    the middle of the last commit.
    """
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
