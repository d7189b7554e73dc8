"""How fast the reader reads, beside what else reads the same files: `jobs/benchmark_reader.py`.

Every measurement runs in a process of its own, so that memory is its own; all contenders take
turns, and medians count. The files are made for it: random ids, in the dataset's own format.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pydantic

from pipeline.dataset import Lineage, TokenDataset
from pipeline.errors import PipelineError
from pipeline.reading.loader import LoaderConfig, TokenLoader
from pipeline.reading.positions import Positions
from pipeline.reading.reader import OrderConfig, TokenReader
from pipeline.records import stable_id
from pipeline.whole_files import replace_file
from sweettok.geometry import ClipGeometry
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

_NUM_WORDS = 10_000
_CLIPS_PER_VIDEO = 10


class ReaderBenchmarkConfig(StrictConfig):
    """One run of `jobs/benchmark_reader.py`.

    Attributes:
        directory: Where the dataset is made, once, and kept.
        num_clips: Clips of the dataset.
        num_spatial_tokens, num_temporal_tokens: Tokens of each.
        clips_per_file: Clips of each data file.
        read_clips: Clips that each measurement of throughput reads.
        batch_size: Clips per batch.
        window_samples: Windows of the memory curve; the first is that of the shuffled reading.
        num_repeats: Rounds over all contenders.
        output: JSON file with everything measured.
    """

    directory: str = "runs/benchmark_reader/tokens"
    num_clips: int = pydantic.Field(default=1_000_000, ge=1)
    num_spatial_tokens: int = pydantic.Field(default=64, ge=1)
    num_temporal_tokens: int = pydantic.Field(default=64, ge=0)
    clips_per_file: int = pydantic.Field(default=100_000, ge=1)
    read_clips: int = pydantic.Field(default=400_000, ge=1)
    batch_size: int = pydantic.Field(default=256, ge=1)
    window_samples: tuple[pydantic.PositiveInt, ...] = (32_768, 2_048, 8_192, 131_072)
    num_repeats: int = pydantic.Field(default=3, ge=1)
    output: str = "runs/benchmark_reader/result.json"


@dataclass(frozen=True)
class Reading:
    """One measurement.

    Attributes:
        num_clips: Clips read.
        open_s: Seconds until the first batch.
        wall_s, cpu_s: Seconds for all clips, the opening included.
        peak_mib: Largest resident memory of the process, in MiB.
        base_mib: The same before anything was opened.
    """

    num_clips: int
    open_s: float
    wall_s: float
    cpu_s: float
    peak_mib: float
    base_mib: float


def benchmark_reader(config: ReaderBenchmarkConfig) -> str:
    """Measures everything; returns the tables as text."""
    root = _dataset(config)
    names = [
        "pyarrow",
        "reader",
        "reader int16",
        "datasets",
        "reader shuffled",
        "datasets shuffled",
    ]
    measured: dict[str, list[Reading]] = {name: [] for name in names}
    for repeat in range(config.num_repeats):
        for name in names:
            measured[name].append(_in_own_process(_read, name, root, config))
            logger.info("round %d, %s: %s", repeat + 1, name, measured[name][-1])
    resumed = [_in_own_process(_resume, root, config) for _ in range(config.num_repeats)]
    curve = {
        window: _in_own_process(
            _read,
            "reader shuffled",
            root,
            config.model_copy(update={"window_samples": (window,)}),
        )
        for window in config.window_samples
    }
    values = {
        "config": config.to_mapping(),
        "readings": {name: [asdict(each) for each in found] for name, found in measured.items()},
        "resumed": [asdict(each) for each in resumed],
        "memory": {window: asdict(found) for window, found in curve.items()},
    }
    replace_file(Path(config.output), (json.dumps(values, indent=2) + "\n").encode())
    return "\n\n".join([_table(measured, config), _resume_line(resumed, config), _curve(curve)])


def _read(name: str, root: str, config: ReaderBenchmarkConfig) -> Reading:
    batches: dict[str, Callable[[], Iterator[int]]] = {
        "pyarrow": lambda: _pyarrow(root),
        "reader": lambda: _reader(root, config, shuffle=False),
        "reader int16": lambda: _reader(root, config, shuffle=False, ids="int16"),
        "reader shuffled": lambda: _reader(root, config, shuffle=True),
        "datasets": lambda: _datasets(root, config, shuffle=False),
        "datasets shuffled": lambda: _datasets(root, config, shuffle=True),
    }
    return _measured(batches[name], config.read_clips)


def _resume(root: str, config: ReaderBenchmarkConfig) -> Reading:
    """One batch, from the middle of the epoch on."""

    def batches() -> Iterator[int]:
        loader = _loader(root, config, shuffle=True)
        half = Positions.first(config.num_clips // 2)
        loader.load_state_dict(loader.state_dict() | {"consumed": half.to_list()})
        for batch in loader:
            yield len(batch)

    return _measured(batches, 1)


def _pyarrow(root: str) -> Iterator[int]:
    rows = pa_dataset.dataset(_paths(root), format="parquet")
    scanner = rows.scanner(columns=["spatial_tokens", "temporal_tokens"])
    for batch in scanner.to_batches():
        yield batch.num_rows


def _reader(
    root: str, config: ReaderBenchmarkConfig, *, shuffle: bool, ids: str = "int64"
) -> Iterator[int]:
    for batch in _loader(root, config, shuffle=shuffle, ids=ids):
        yield len(batch)


def _loader(
    root: str, config: ReaderBenchmarkConfig, *, shuffle: bool, ids: str = "int64"
) -> TokenLoader:
    order = OrderConfig(shuffle=shuffle, window_samples=config.window_samples[0])
    values = {"batch_size": config.batch_size, "ids": ids, "order": order.to_mapping()}
    return TokenLoader(TokenReader.open(root), LoaderConfig.from_mapping(values))


def _datasets(root: str, config: ReaderBenchmarkConfig, *, shuffle: bool) -> Iterator[int]:
    try:
        import datasets
    except ImportError:
        raise PipelineError(
            "the comparison needs the package datasets: pip install datasets"
        ) from None

    rows = datasets.load_dataset("parquet", data_files=_paths(root), split="train", streaming=True)
    rows = rows.select_columns(["spatial_tokens", "temporal_tokens"])
    if shuffle:
        rows = rows.shuffle(seed=0, buffer_size=config.window_samples[0])
    for batch in rows.with_format("torch").iter(batch_size=config.batch_size):
        yield len(batch["spatial_tokens"])


def _paths(root: str) -> list[str]:
    return sorted(str(Path(root) / path) for path in TokenDataset.open(root).clips.file_sizes())


def _measured(batches: Callable[[], Iterator[int]], num_clips: int) -> Reading:
    base_mib = _peak_mib()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    open_s, found = 0.0, 0
    for count in batches():
        open_s = open_s or time.perf_counter() - began_s
        found += count
        if found >= num_clips:
            break
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return Reading(found, open_s, wall_s, cpu_s, _peak_mib(), base_mib)


def _in_own_process(work: Callable[..., Reading], *arguments: Any) -> Reading:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        found: Reading = ours.recv()
    except EOFError:
        raise PipelineError("a measuring process ended early; its message stands above") from None
    finally:
        process.join()
    return found


def _answer(connection: Any, work: Callable[..., Reading], arguments: tuple[Any, ...]) -> None:
    connection.send(work(*arguments))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _dataset(config: ReaderBenchmarkConfig) -> str:
    """The dataset, made once: its folder names what is in it."""
    tokens = f"{config.num_spatial_tokens}-{config.num_temporal_tokens}"
    root = f"{config.directory}-{config.num_clips}-{tokens}-{config.clips_per_file}"
    dataset = TokenDataset.create_or_open(root, _lineage(config))
    if dataset.num_clips() == config.num_clips:
        return root
    logger.info("making %d clips in %s", config.num_clips, root)
    files = []
    for first in range(0, config.num_clips, config.clips_per_file):
        count = min(config.clips_per_file, config.num_clips - first)
        files.append(dataset.clips.write(_rows(config, first, count, dataset.clips.schema)))
    dataset.clips.swap([], files, {})
    return root


def _rows(config: ReaderBenchmarkConfig, first: int, count: int, schema: pa.Schema) -> pa.Table:
    random = np.random.default_rng(first)
    columns: dict[str, pa.Array] = {}
    for name, width in (
        ("spatial_tokens", config.num_spatial_tokens),
        ("temporal_tokens", config.num_temporal_tokens),
    ):
        ids = random.integers(0, _NUM_WORDS, count * width).astype(np.int16)
        offsets = np.arange(count + 1, dtype=np.int32) * width
        kind = schema.field(name).type
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(ids), type=kind)
    numbers = range(first, first + count)
    videos = [number // _CLIPS_PER_VIDEO for number in numbers]
    columns["clip_id"] = pa.array([stable_id("benchmark", number) for number in numbers])
    columns["video_id"] = pa.array([stable_id("benchmark video", video) for video in videos])
    columns["video_uri"] = pa.array([f"file:///videos/{video:08}.mp4" for video in videos])
    columns["video_fingerprint"] = pa.array(["f" * 32] * count)
    columns["clip_index"] = pa.array([n % _CLIPS_PER_VIDEO for n in numbers], pa.int32())
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _lineage(config: ReaderBenchmarkConfig) -> Lineage:
    return Lineage(
        weights_hash="benchmark",
        codebook_hash="benchmark",
        geometry=ClipGeometry(),
        num_spatial_tokens=config.num_spatial_tokens,
        num_temporal_tokens=config.num_temporal_tokens,
        num_spatial_words=_NUM_WORDS,
        num_temporal_words=_NUM_WORDS,
        preprocessing={},
        clip_policy={},
        decoder="none",
        precision="fp32",
    )


def _table(measured: dict[str, list[Reading]], config: ReaderBenchmarkConfig) -> str:
    tokens = config.num_spatial_tokens + config.num_temporal_tokens
    lines = [
        "| reading | clips/s | tokens/s | clips per CPU-s | × pyarrow (wall) | peak, MiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    yardstick = _rate(measured["pyarrow"])
    for name, found in measured.items():
        rate = _rate(found)
        per_cpu_s = statistics.median(each.num_clips / each.cpu_s for each in found)
        peak = statistics.median(each.peak_mib - each.base_mib for each in found)
        lines.append(
            f"| {name} | {rate:,.0f} | {rate * tokens:,.0f} | {per_cpu_s:,.0f} "
            f"| {rate / yardstick:.2f} | +{peak:,.0f} |"
        )
    return "\n".join(lines)


def _rate(found: list[Reading]) -> float:
    return statistics.median(each.num_clips / each.wall_s for each in found)


def _resume_line(found: list[Reading], config: ReaderBenchmarkConfig) -> str:
    median_s = statistics.median(each.open_s for each in found)
    return (
        f"first batch after resuming in the middle of {config.num_clips:,} clips: {median_s:.2f} s "
        f"(median of {len(found)}, opening the dataset included)"
    )


def _curve(curve: dict[int, Reading]) -> str:
    lines = ["| window, clips | clips/s | peak above start, MiB |", "|---:|---:|---:|"]
    for window, found in sorted(curve.items()):
        rate, added = found.num_clips / found.wall_s, found.peak_mib - found.base_mib
        lines.append(f"| {window:,} | {rate:,.0f} | {added:,.0f} |")
    return "\n".join(lines)
