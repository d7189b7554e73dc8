"""Full batches out of what several callers bring, and several batches under way at one time.

Each caller brings some items and waits for their results. Items of all callers wait in one line and
are taken from it in full batches; a batch that is not full is started only when nothing else is
under way, so that a device that could work never waits for more. There is no thread of its own: of
the callers that wait, one at a time drives, starting batches and taking in results, also those of
the others. A single caller thus works in its own thread, as a plain loop would.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Started(Protocol[ResultT_co]):
    """A batch that is under way."""

    def results(self) -> Sequence[ResultT_co]:
        """Waits until the batch is done; one result per item, in the items' order."""


@dataclass(eq=False)
class _Call:
    """What one caller brought, and what has become of it."""

    results: list[Any]
    num_missing: int
    error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        return self.num_missing == 0 or self.error is not None


@dataclass(frozen=True)
class _Batch(Generic[ResultT]):
    """A started batch, and where its results belong: a call, and a place in it, for each."""

    places: list[tuple[_Call, int]]
    started: Started[ResultT]


class BatchQueue(Generic[ItemT, ResultT]):
    """Runs the items of any number of threads in shared batches.

    Args:
        start: Starts a batch; may return before it is done. Never called by two threads at a time.
        batch_size: Items of a full batch.
        max_under_way: How many batches may be started and not taken in.
    """

    def __init__(
        self,
        start: Callable[[Sequence[ItemT]], Started[ResultT]],
        batch_size: int,
        max_under_way: int = 1,
    ) -> None:
        self._start = start
        self._batch_size = batch_size
        self._max_under_way = max_under_way
        self._calls: set[_Call] = set()
        self._waiting: deque[tuple[_Call, int, ItemT]] = deque()
        self._under_way: deque[_Batch[ResultT]] = deque()
        self._line = threading.Lock()  # guards `_calls` and `_waiting`
        self._turn = threading.Lock()  # whoever drives holds it

    @property
    def num_waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._waiting)

    def run(self, items: Sequence[ItemT]) -> list[ResultT]:
        """The results of `items`, in their order.

        Raises:
            BaseException: What a batch failed with. Every caller that waits at that time gets it,
                for its items may be part of what was lost; later calls begin anew.
        """
        call = _Call([None] * len(items), len(items))
        with self._line:
            self._calls.add(call)
            self._waiting.extend((call, place, item) for place, item in enumerate(items))
        while not call.is_over:
            with self._turn:
                if not call.is_over:  # else another caller has brought the results meanwhile
                    self._drive()
        with self._line:
            self._calls.discard(call)
        if call.error is not None:
            raise call.error
        return call.results

    def _drive(self) -> None:
        """One step: a batch is started, or the oldest one is taken in."""
        try:
            items = self._next_items()
            if not items:
                self._take_in(self._under_way.popleft())
                return
            started = self._start([item for _, _, item in items])
            self._under_way.append(_Batch([(call, place) for call, place, _ in items], started))
        except BaseException as error:
            self._fail(error)
            raise

    def _next_items(self) -> list[tuple[_Call, int, ItemT]]:
        """What is to be started now; nothing if that would be too early."""
        with self._line:
            if len(self._under_way) >= self._max_under_way:
                return []
            if self._under_way and len(self._waiting) < self._batch_size:
                return []
            size = min(self._batch_size, len(self._waiting))
            return [self._waiting.popleft() for _ in range(size)]

    def _take_in(self, batch: _Batch[ResultT]) -> None:
        for (call, place), result in zip(batch.places, batch.started.results(), strict=True):
            call.results[place] = result
            call.num_missing -= 1

    def _fail(self, error: BaseException) -> None:
        with self._line:
            for call in self._calls:
                call.error = error
            self._calls.clear()
            self._waiting.clear()
            self._under_way.clear()
