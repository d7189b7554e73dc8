"""How long planning takes, and how much memory, as a corpus grows.

Every size runs in a process of its own: a manifest of so many rows is compared with a dataset that
has all of them but every thousandth. A line through the sizes says what larger ones would take.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from pipeline.dataset import TokenDataset
from pipeline.errors import PipelineError
from pipeline.planning import plan
from pipeline.sources import ManifestConfig, SourceConfig, list_batches
from pipeline.synthetic_corpus import num_new, write_dataset, write_manifest
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)


class PlanningBenchmarkConfig(StrictConfig):
    """One run of `jobs/benchmark_planning.py`.

    Attributes:
        num_videos: Sizes of the manifest, in rows, the largest one last.
        clips_per_video: Clip rows that the dataset has of each video.
        predicted_num_videos: Size that the line through the measured ones is extended to.
        directory: Where manifests and datasets are made; what is there is used again.
        output: JSON file with all numbers.
    """

    num_videos: tuple[int, ...] = pydantic.Field(default=(10_000, 100_000, 1_000_000), min_length=2)
    clips_per_video: int = pydantic.Field(default=4, ge=1)
    predicted_num_videos: int = pydantic.Field(default=100_000_000, ge=1)
    directory: str
    output: str

    @pydantic.field_validator("num_videos")
    @classmethod
    def _check_sizes(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes, default=0) < 1 or list(sizes) != sorted(set(sizes)):
            raise ValueError("must be growing sizes of at least one video")
        return sizes


@dataclass(frozen=True)
class PlanningMeasurement:
    """One size.

    Attributes:
        num_videos: Rows of the manifest.
        num_units: Videos that were found to be left to do.
        dataset_s: Seconds for reading which videos the dataset has.
        diff_s: Seconds for listing the manifest and comparing.
        cpu_s: CPU seconds of both.
        idle_bytes: Largest memory of the process before it began.
        peak_bytes: Largest memory of the process at the end.
    """

    num_videos: int
    num_units: int
    dataset_s: float
    diff_s: float
    cpu_s: float
    idle_bytes: int
    peak_bytes: int

    @property
    def wall_s(self) -> float:
        """Seconds for both steps."""
        return self.dataset_s + self.diff_s


@dataclass(frozen=True)
class PlanningReport:
    """All sizes, and what they say of a larger one.

    Attributes:
        measurements: One per size.
        predicted_num_videos: The larger size.
        predicted_wall_s, predicted_cpu_s, predicted_peak_bytes: Its values on the straight line.
        num_cpus: CPU cores of the machine.
    """

    measurements: tuple[PlanningMeasurement, ...]
    predicted_num_videos: int
    predicted_wall_s: float
    predicted_cpu_s: float
    predicted_peak_bytes: float
    num_cpus: int

    def table(self) -> str:
        """A Markdown table, the predicted size last."""
        lines = [
            "| rows | to do | dataset s | diff s | wall s | CPU s | peak GB | of it idle |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for it in self.measurements:
            lines.append(
                f"| {it.num_videos:,} | {it.num_units:,} | {it.dataset_s:.2f} | {it.diff_s:.2f} | "
                f"{it.wall_s:.2f} | {it.cpu_s:.2f} | {it.peak_bytes / 1e9:.2f} | "
                f"{it.idle_bytes / 1e9:.2f} |"
            )
        lines.append(
            f"| {self.predicted_num_videos:,} (predicted) | | | | {self.predicted_wall_s:,.0f} | "
            f"{self.predicted_cpu_s:,.0f} | {self.predicted_peak_bytes / 1e9:.1f} | |"
        )
        return "\n".join(lines)


def run_planning_benchmark(config: PlanningBenchmarkConfig) -> PlanningReport:
    """Makes the corpora that are not there yet, measures every size and writes the JSON file.

    Raises:
        PipelineError: A plan is not the right one, or its process failed.
    """
    measurements = []
    for num_videos in config.num_videos:
        folder = _corpus(config, num_videos)
        measurements.append(_measure_apart(folder, num_videos))
        logger.info("%d rows: %.2f s", num_videos, measurements[-1].wall_s)
    report = _report(tuple(measurements), config.predicted_num_videos)
    output = Path(config.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    return report


def _corpus(config: PlanningBenchmarkConfig, num_videos: int) -> Path:
    folder = Path(config.directory) / f"{num_videos}x{config.clips_per_video}"
    marker = folder / "complete"
    if not marker.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_manifest(folder / "manifest.parquet", num_videos)
        write_dataset(folder / "tokens", num_videos, config.clips_per_video)
        marker.touch()
    return folder


def _measure_apart(folder: Path, num_videos: int) -> PlanningMeasurement:
    """Measures in a fresh process, whose memory nothing else has grown."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(folder, num_videos, sender))
    process.start()
    sender.close()
    try:
        measurement = PlanningMeasurement(**json.loads(receiver.recv_bytes()))
    except EOFError:
        raise PipelineError(f"planning {num_videos} rows failed; its message is above") from None
    finally:
        process.join()
    if measurement.num_units != num_new(num_videos):
        raise PipelineError(
            f"of {num_videos} rows {measurement.num_units} were planned instead of "
            f"{num_new(num_videos)}; remove {folder} and measure again"
        )
    return measurement


def _measure(folder: Path, num_videos: int, sender: multiprocessing.connection.Connection) -> None:
    source = SourceConfig(manifests=(ManifestConfig(uri=str(folder / "manifest.parquet")),))
    idle_bytes = _peak_bytes()
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    finished = TokenDataset.open(folder / "tokens").finished_units()
    read_s = time.perf_counter()
    planned = plan(list_batches(source), finished)
    end_s, end_cpu_s = time.perf_counter(), time.process_time()
    measurement = PlanningMeasurement(
        num_videos=num_videos,
        num_units=len(planned.units),
        dataset_s=read_s - start_s,
        diff_s=end_s - read_s,
        cpu_s=end_cpu_s - start_cpu_s,
        idle_bytes=idle_bytes,
        peak_bytes=_peak_bytes(),
    )
    sender.send_bytes(json.dumps(dataclasses.asdict(measurement)).encode())


def _report(
    measurements: tuple[PlanningMeasurement, ...], predicted_num_videos: int
) -> PlanningReport:
    def predicted(values: list[float]) -> float:
        slope, start = np.polyfit([it.num_videos for it in measurements], values, 1)
        return float(start + slope * predicted_num_videos)

    return PlanningReport(
        measurements=measurements,
        predicted_num_videos=predicted_num_videos,
        predicted_wall_s=predicted([it.wall_s for it in measurements]),
        predicted_cpu_s=predicted([it.cpu_s for it in measurements]),
        predicted_peak_bytes=predicted([float(it.peak_bytes) for it in measurements]),
        num_cpus=os.cpu_count() or 1,
    )


def _peak_bytes() -> int:
    """Largest resident size of this process; unlike `getrusage`, without its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise PipelineError("this system does not say how much memory a process has used")
