"""One torch thread: the same sums on every machine, and no threads that wait for busy cores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread(seed: int) -> Iterator[None]:
    """Runs a block on one thread from `seed`; the caller's threads and random state come back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
