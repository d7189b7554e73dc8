"""Batches over several callers: full ones, each result where it belongs, nobody left waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.batch_queue import BatchQueue


def _opened() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass
class Device:
    """Squares numbers in batches, in the order in which they were started, like a GPU's queue.

    No batch is done before the device is opened.
    """

    batch_size: int
    duration_s: float = 0.0
    opens: threading.Event = field(default_factory=_opened)
    sizes: list[int] = field(default_factory=list)
    num_under_way: int = 0
    most_under_way: int = 0
    fails_at: int | None = None

    def start(self, items: Sequence[int]) -> Batch:
        assert 0 < len(items) <= self.batch_size
        self.sizes.append(len(items))
        self.num_under_way += 1
        self.most_under_way = max(self.most_under_way, self.num_under_way)
        return Batch(self, tuple(items), time.monotonic() + self.duration_s)


@dataclass
class Batch:
    device: Device
    items: tuple[int, ...]
    ready_s: float

    def results(self) -> list[int]:
        assert self.device.opens.wait(timeout=30)
        time.sleep(max(0.0, self.ready_s - time.monotonic()))
        self.device.num_under_way -= 1
        if self.device.fails_at in self.items:
            raise ZeroDivisionError(f"item {self.device.fails_at}")
        return [item * item for item in self.items]


@given(st.integers(1, 7), st.integers(1, 4), st.lists(st.integers(0, 40), max_size=5))
@settings(deadline=None)
def test_one_caller_gets_its_results_in_order(
    batch_size: int, max_under_way: int, counts: list[int]
) -> None:
    device = Device(batch_size)
    queue: BatchQueue[int, int] = BatchQueue(device.start, batch_size, max_under_way)
    for count in counts:
        assert queue.run(range(count)) == [item * item for item in range(count)]
    wanted = [size for count in counts for size in _sizes(count, batch_size)]
    assert device.sizes == wanted
    assert device.most_under_way <= max_under_way
    assert device.num_under_way == 0


def _sizes(count: int, batch_size: int) -> list[int]:
    full, rest = divmod(count, batch_size)
    return [batch_size] * full + [rest] * (rest > 0)


def test_a_caller_of_many_keeps_as_many_batches_under_way_as_allowed() -> None:
    device = Device(batch_size=4)
    queue: BatchQueue[int, int] = BatchQueue(device.start, 4, max_under_way=3)
    queue.run(range(40))
    assert device.most_under_way == 3


def test_callers_share_batches_and_get_their_own_results() -> None:
    """While one batch is under way, six callers bring 3 items each: two full batches and a rest."""
    device = Device(batch_size=8, opens=threading.Event())
    queue: BatchQueue[int, int] = BatchQueue(device.start, 8)

    def call(number: int) -> bool:
        items = range(3 * number, 3 * number + 3)
        return queue.run(items) == [item * item for item in items]

    with ThreadPoolExecutor(7) as threads:
        calls = [threads.submit(call, 0)]
        _wait_until(lambda: device.num_under_way == 1)
        calls += [threads.submit(call, number) for number in range(1, 7)]
        _wait_until(lambda: queue.num_waiting == 18)
        device.opens.set()
        assert all(each.result(timeout=30) for each in calls)
    assert device.sizes == [3, 8, 8, 2]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_nobody_waits_for_a_batch_to_fill() -> None:
    device = Device(batch_size=100)
    queue: BatchQueue[int, int] = BatchQueue(device.start, 100, max_under_way=2)
    assert queue.run([3]) == [9]
    assert device.sizes == [1]


def test_a_failure_reaches_everybody_who_waits_and_nobody_after_them() -> None:
    device = Device(batch_size=2, duration_s=0.05, fails_at=3)
    queue: BatchQueue[int, int] = BatchQueue(device.start, 2, max_under_way=2)
    barrier = threading.Barrier(3)

    def call(items: Sequence[int]) -> list[int]:
        barrier.wait()
        return queue.run(items)

    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(call, items) for items in ([3, 4], [3, 6], [3, 8])]
        errors = [each.exception(timeout=5) for each in calls]
    assert all(isinstance(error, ZeroDivisionError) for error in errors)
    device.fails_at = None
    assert queue.run([5, 6, 7]) == [25, 36, 49]


def test_what_cannot_be_started_fails_as_well() -> None:
    def refuse(items: Sequence[int]) -> Batch:
        raise MemoryError(f"no room for {len(items)}")

    queue: BatchQueue[int, int] = BatchQueue(refuse, 2)
    for _ in range(2):
        with pytest.raises(MemoryError, match="no room for 2"):
            queue.run([1, 2, 3])
