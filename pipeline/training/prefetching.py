"""Makes items ready in a thread while the consumer works on the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")

_END = object()


def prefetched(items: Iterator[ItemT], depth: int) -> Generator[ItemT, None, None]:
    """Yields `items` in their order, at most `depth` of them made ahead.

    An error of `items` is raised where its item would have come. The thread begins with the first
    item asked for and ends when this iterator is closed, forgotten or used up.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    waiting: deque[Future[ItemT | object]] = deque()
    try:
        for _ in range(depth):
            waiting.append(executor.submit(next, items, _END))
        while True:
            item = waiting.popleft().result()
            if item is _END:
                return
            waiting.append(executor.submit(next, items, _END))
            yield item  # type: ignore[misc]
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        close = getattr(items, "close", None)
        if close is not None:
            close()
