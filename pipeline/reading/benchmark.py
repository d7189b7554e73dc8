"""How fast the reader reads, beside what else reads the same files: `jobs/benchmark_reader.py`.

All contenders take turns, beginning with another one in every round; ratios are those of one round
and medians count, so that other work on the machine falls on all alike.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pydantic

from pipeline.reading.contenders import Reading, Task, measured
from pipeline.reading.random_tokens import RandomTokensConfig, make_random_tokens
from pipeline.whole_files import replace_file
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

_SCAN, _ROW_GROUPS = "pyarrow scan", "pyarrow row groups"
_IN_ORDER = (_SCAN, _ROW_GROUPS, "reader int16", "reader", "datasets arrow", "datasets")
_SHUFFLED = ("reader shuffled", "datasets shuffled")
_CURVE_SHARES = (0.05, 0.25, 0.5, 0.75, 1.0)


class ReaderBenchmarkConfig(StrictConfig):
    """One run of `jobs/benchmark_reader.py`.

    Attributes:
        dataset: The dataset that is made and read.
        read_clips: Clips that each measurement of throughput reads.
        max_s: Seconds after its first batch after which a measurement of Hugging Face's datasets
            ends earlier.
        batch_size: Clips per batch.
        window_samples: Windows of the memory curve; the first is that of the shuffled reading.
        num_repeats: Rounds over all contenders.
        output: JSON file with everything measured.
    """

    dataset: RandomTokensConfig = RandomTokensConfig()
    read_clips: int = pydantic.Field(default=1_000_000, ge=1)
    max_s: float = pydantic.Field(default=15.0, gt=0)
    batch_size: int = pydantic.Field(default=256, ge=1)
    window_samples: tuple[pydantic.PositiveInt, ...] = pydantic.Field(
        default=(32_768, 2_048, 8_192, 131_072), min_length=1
    )
    num_repeats: int = pydantic.Field(default=5, ge=1)
    output: str = "runs/benchmark_reader/result.json"

    def task(self, *, window_samples: int | None = None) -> Task:
        """What one measurement reads."""
        window = window_samples or self.window_samples[0]
        root, read_clips = self.dataset.root, min(self.read_clips, self.dataset.num_clips)
        return Task(root, self.batch_size, window, read_clips, self.max_s)


def benchmark_reader(config: ReaderBenchmarkConfig) -> str:
    """Measures everything; returns the tables as text."""
    make_random_tokens(config.dataset)
    speeds = _in_turns(config, {name: config.task() for name in (*_IN_ORDER, *_SHUFFLED)})
    first = replace(config.task(), read_clips=1)
    resumed = {
        state: [measured("reader resumed", task) for _ in range(config.num_repeats)]
        for state, task in (
            ("files in the page cache", first),
            ("files dropped from the page cache", replace(first, is_cold=True)),
        )
    }
    memory = {
        window: measured("reader shuffled", config.task(window_samples=window))
        for window in sorted(set(config.window_samples))
    }
    values = {
        "config": config.to_mapping(),
        "speeds": {name: [asdict(each) for each in found] for name, found in speeds.items()},
        "resumed": {name: [asdict(each) for each in found] for name, found in resumed.items()},
        "memory": {window: asdict(found) for window, found in memory.items()},
    }
    replace_file(Path(config.output), (json.dumps(values, indent=2) + "\n").encode())
    loads = [each.load for found in speeds.values() for each in found]
    return "\n\n".join(
        [
            f"load average {min(loads):.1f} to {max(loads):.1f}; medians of {config.num_repeats}",
            _speed_table(speeds, config.dataset.num_tokens),
            *(_resume_line(state, found, config) for state, found in resumed.items()),
            _memory_table(memory),
        ]
    )


def _in_turns(config: ReaderBenchmarkConfig, tasks: dict[str, Task]) -> dict[str, list[Reading]]:
    """Every contender once a round; each round begins with another one."""
    names = list(tasks)
    found: dict[str, list[Reading]] = {name: [] for name in names}
    for number in range(config.num_repeats):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            found[name].append(measured(name, tasks[name]))
            reading = found[name][-1]
            logger.info(
                "round %d, %s: %.0f clips/s, %.0f per CPU-s",
                number + 1, name, reading.clips_per_s, reading.clips_per_cpu_s,
            )  # fmt: skip
    return found


def _speed_table(speeds: dict[str, list[Reading]], num_tokens: int) -> str:
    lines = [
        "| reading | clips/s | tokens/s | clips per CPU-s | × scan (wall) | × scan (CPU) "
        "| × row groups (CPU) | first batch, s | peak, MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in speeds.items():
        rate = _median(found, lambda each: each.clips_per_s)
        per_cpu_s = _median(found, lambda each: each.clips_per_cpu_s)
        ratios = [
            _ratio(found, speeds[_SCAN], lambda each: each.clips_per_s),
            _ratio(found, speeds[_SCAN], lambda each: each.clips_per_cpu_s),
            _ratio(found, speeds[_ROW_GROUPS], lambda each: each.clips_per_cpu_s),
        ]
        first_s = _median(found, lambda each: each.first_batch_s)
        peak_mib = _median(found, lambda each: each.peak_mib)
        lines.append(
            f"| {name} | {rate:,.0f} | {rate * num_tokens:,.0f} | {per_cpu_s:,.0f} | "
            + " | ".join(f"{ratio:.2f}" for ratio in ratios)
            + f" | {first_s:.2f} | +{peak_mib:,.0f} |"
        )
    return "\n".join(lines)


def _resume_line(state: str, found: Sequence[Reading], config: ReaderBenchmarkConfig) -> str:
    times_s = sorted(each.first_batch_s for each in found)
    return (
        f"first batch after resuming in the middle of {config.dataset.num_clips:,} clips, {state}: "
        f"{statistics.median(times_s):.2f} s ({times_s[0]:.2f} to {times_s[-1]:.2f}, opening the "
        "dataset included)"
    )


def _memory_table(memory: dict[int, Reading]) -> str:
    shares = " | ".join(f"{share:.0%} read" for share in _CURVE_SHARES)
    lines = [
        f"| window, clips | clips/s | {shares} | peak, MiB |",
        "|---:|---:|" + "---:|" * (len(_CURVE_SHARES) + 1),
    ]
    for window, found in memory.items():
        curve = " | ".join(f"+{value:,.0f}" for value in _at_shares(found))
        lines.append(
            f"| {window:,} | {found.clips_per_s:,.0f} | {curve} | +{found.peak_mib:,.0f} |"
        )
    return "\n".join(lines)


def _at_shares(found: Reading) -> Iterable[float]:
    for share in _CURVE_SHARES:
        clips = share * found.num_clips
        yield min(found.memory_mib, key=lambda point: abs(point[0] - clips))[1]


def _median(found: Sequence[Reading], value: Callable[[Reading], float]) -> float:
    return statistics.median(value(each) for each in found)


def _ratio(
    found: Sequence[Reading], others: Sequence[Reading], value: Callable[[Reading], float]
) -> float:
    """The median of each round's ratio."""
    pairs = zip(found, others, strict=True)
    return statistics.median(value(each) / value(other) for each, other in pairs)
