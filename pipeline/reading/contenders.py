"""Everything that reads the same token columns of the same files, and how one reading is measured.

    name                      what it gives, batch by batch
    pyarrow scan              Arrow arrays of int16: pyarrow.dataset's scanner with its defaults
    pyarrow row groups        Arrow arrays of int16: one row group after the other, in one loop
    datasets arrow            Arrow arrays of int16: Hugging Face datasets, streaming
    datasets                  tensors of int64: the same, format "torch"
    datasets shuffled         tensors of int64: the same, with a buffer of one window
    reader int16              tensors of int16: a TokenLoader, in order
    reader                    tensors of int64: the same
    reader shuffled           tensors of int64: the same, shuffled over the whole dataset
    reader resumed            tensors of int64: the same, from the middle of an epoch on

All project the two token columns; the libraries are imported before the clock starts, and opening
the dataset counts. A measurement runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.dataset as pa_dataset
import pyarrow.parquet as pq

from pipeline.dataset import TokenDataset
from pipeline.errors import PipelineError
from pipeline.reading.loader import LoaderConfig, TokenLoader
from pipeline.reading.positions import Positions
from pipeline.reading.reader import OrderConfig, TokenReader
from pipeline.reading.samples import TOKEN_COLUMNS

_NUM_MEMORY_SAMPLES = 20
_PAGE_MIB = os.sysconf("SC_PAGESIZE") / 2**20


@dataclass(frozen=True)
class Task:
    """What is read, and how far.

    Attributes:
        root: The dataset.
        batch_size: Clips per batch.
        window_samples: Window, or buffer, of a shuffled reading.
        read_clips: Clips after which a reading ends.
        max_s: Seconds after the first batch after which Hugging Face's readings end, if that is
            earlier. The others read on: what a scanner has read ahead by then would not count.
        is_cold: Whether the files are first dropped from the operating system's cache.
    """

    root: str
    batch_size: int
    window_samples: int
    read_clips: int
    max_s: float
    is_cold: bool = False


@dataclass(frozen=True)
class Reading:
    """One measurement.

    Attributes:
        num_clips: Clips read.
        first_batch_s: Seconds until the first batch, opening included.
        wall_s, cpu_s: Seconds for all clips, opening included; CPU seconds of all threads.
        peak_mib: Largest resident memory above that of the start, in MiB.
        memory_mib: The same now and then on the way, as (clips, MiB).
        load: The machine's load average, of one minute, at the start.
    """

    num_clips: int
    first_batch_s: float
    wall_s: float
    cpu_s: float
    peak_mib: float
    memory_mib: tuple[tuple[int, float], ...]
    load: float

    @property
    def clips_per_s(self) -> float:
        """Clips per second of the clock."""
        return self.num_clips / self.wall_s

    @property
    def clips_per_cpu_s(self) -> float:
        """Clips per CPU second."""
        return self.num_clips / self.cpu_s


def measured(name: str, task: Task) -> Reading:
    """Reads as the contender `name` does, in a new process.

    Raises:
        PipelineError: That process failed; its own message says why.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, name, task))
    process.start()
    theirs.close()
    try:
        found: Reading = ours.recv()
    except EOFError:
        raise PipelineError(f"measuring {name!r} ended early; its message stands above") from None
    finally:
        process.join()
    return found


def _answer(connection: Any, name: str, task: Task) -> None:
    if task.is_cold:
        _drop_from_cache(_paths(task.root))
    if name not in _MAY_END_EARLY:
        task = replace(task, max_s=math.inf)
    connection.send(_measure(CONTENDERS[name](task), task))


def _measure(batches: Callable[[], Iterator[int]], task: Task) -> Reading:
    load, base_mib = os.getloadavg()[0], _resident_mib()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    first_batch_s, found = 0.0, 0
    memory: list[tuple[int, float]] = []
    for count in batches():
        elapsed_s = time.perf_counter() - began_s
        first_batch_s = first_batch_s or elapsed_s
        found += count
        if found * _NUM_MEMORY_SAMPLES >= len(memory) * task.read_clips:
            memory.append((found, _resident_mib() - base_mib))
        if found >= task.read_clips or elapsed_s > first_batch_s + task.max_s:
            break
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - base_mib
    return Reading(found, first_batch_s, wall_s, cpu_s, peak_mib, tuple(memory), load)


def _paths(root: str) -> list[str]:
    return sorted(str(Path(root) / path) for path in TokenDataset.open(root).clips.file_sizes())


def _drop_from_cache(paths: list[str]) -> None:
    for path in paths:
        with Path(path).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_MIB


def _scan(task: Task) -> Callable[[], Iterator[int]]:
    paths = _paths(task.root)

    def batches() -> Iterator[int]:
        scanner = pa_dataset.dataset(paths, format="parquet").scanner(columns=list(TOKEN_COLUMNS))
        for batch in scanner.to_batches():
            yield batch.num_rows

    return batches


def _row_groups(task: Task) -> Callable[[], Iterator[int]]:
    paths = _paths(task.root)

    def batches() -> Iterator[int]:
        for path in paths:
            with pq.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    yield file.read_row_group(number, columns=list(TOKEN_COLUMNS)).num_rows

    return batches


def _datasets(task: Task, *, form: str, shuffle: bool = False) -> Callable[[], Iterator[int]]:
    paths = _paths(task.root)
    try:
        import datasets
    except ImportError:
        raise PipelineError(
            "the comparison needs the package datasets: pip install datasets"
        ) from None

    def batches() -> Iterator[int]:
        rows = datasets.load_dataset(
            "parquet",
            data_files=paths,
            columns=list(TOKEN_COLUMNS),
            split="train",
            streaming=True,
        )
        if shuffle:
            rows = rows.shuffle(seed=0, buffer_size=task.window_samples)
        for batch in rows.with_format(form).iter(batch_size=task.batch_size):
            yield len(batch["spatial_tokens"])

    return batches


def _reader(
    task: Task, *, shuffle: bool, ids: str = "int64", resumed: bool = False
) -> Callable[[], Iterator[int]]:
    order = OrderConfig(shuffle=shuffle, window_samples=task.window_samples)
    values = {"batch_size": task.batch_size, "ids": ids, "order": order.to_mapping()}
    config = LoaderConfig.from_mapping(values)

    def batches() -> Iterator[int]:
        loader = TokenLoader(TokenReader.open(task.root), config)
        if resumed:
            half = Positions.first(loader.source.num_samples // 2)
            loader.load_state_dict(loader.state_dict() | {"consumed": half.to_list()})
        for batch in loader:
            yield len(batch)

    return batches


_Contender = Callable[[Task], Callable[[], Iterator[int]]]
CONTENDERS: dict[str, _Contender] = {
    "pyarrow scan": _scan,
    "pyarrow row groups": _row_groups,
    "datasets arrow": functools.partial(_datasets, form="arrow"),
    "datasets": functools.partial(_datasets, form="torch"),
    "datasets shuffled": functools.partial(_datasets, form="torch", shuffle=True),
    "reader int16": functools.partial(_reader, shuffle=False, ids="int16"),
    "reader": functools.partial(_reader, shuffle=False),
    "reader shuffled": functools.partial(_reader, shuffle=True),
    "reader resumed": functools.partial(_reader, shuffle=True, resumed=True),
}
"""What gives a contender's batches, as numbers of clips; files are opened with the first one."""

_MAY_END_EARLY = ("datasets arrow", "datasets", "datasets shuffled")
