"""Runs the real engine over stages that only take their time: `jobs/benchmark_cluster.py`."""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.dataset import TokenDataset
from pipeline.engine import CommitTarget, EngineResult, run_on_ray
from pipeline.errors import PipelineError
from pipeline.scaling.cluster_config import ClusterBenchmarkConfig
from pipeline.scaling.cluster_figures import ClusterFigures, cluster_figures
from pipeline.scaling.cluster_report import ClusterReport, DriverFigures
from pipeline.scaling.process_memory import peak_bytes, reset_peak
from pipeline.scaling.report_files import write_report
from pipeline.scaling.simulated_cluster import SimulatedCluster
from pipeline.scaling.simulated_stages import (
    MadeUpDecodeSpec,
    SleepingEncodeConfig,
    simulated_lineage,
)
from pipeline.storage import StorageConfig
from pipeline.throughput.clocks import read_work_logs
from pipeline.throughput.variants import synthetic_units

logger = logging.getLogger(__name__)

_INSTANT_S = 1e-6
_CPUS_PER_ENCODER = 0.01  # an encoder that sleeps leaves its node's cores to decoding
_TOKENIZER = "A benchmark's encoder that sleeps: there is no tokenizer.\n"


def benchmark_cluster(config: ClusterBenchmarkConfig) -> ClusterReport:
    """Measures every size on one growing cluster, writes the JSON file and the picture.

    Raises:
        PipelineError: A node does not come up, a run fails, loses clips, or is too short to tell.
    """
    scratch = Path(config.scratch).absolute()
    shutil.rmtree(scratch, ignore_errors=True)
    with SimulatedCluster(config.node) as cluster:
        sizes = []
        for num_gpus in config.num_gpus:
            cluster.grow_to(num_gpus)
            sizes.append(_measured_size(config, scratch / f"{num_gpus}-gpus", num_gpus))
        driver = [
            _measured_driver(config, scratch / f"{clips}-clips", clips)
            for clips in config.driver.clips_per_unit
        ]
    shutil.rmtree(scratch)
    report = ClusterReport(
        tuple(sizes), tuple(driver), config.clip_s, config.goal, os.cpu_count() or 1
    )
    write_report(report, config.output, config.picture)
    return report


@dataclass(frozen=True)
class _Run:
    """One run of the engine.

    Attributes:
        num_gpus: Encoders.
        num_units: Made-up videos.
        clips_per_unit: Clips of each.
        clip_s: Seconds that an encoder takes for each.
    """

    num_gpus: int
    num_units: int
    clips_per_unit: int
    clip_s: float

    def carry_out(self, config: ClusterBenchmarkConfig, place: Path) -> EngineResult:
        """Tokenizes everything into a fresh dataset; the clocks' notes lie beside it."""
        tokenizer = place / "tokenizer"
        tokenizer.mkdir(parents=True)
        (tokenizer / "README").write_text(_TOKENIZER)
        dataset = TokenDataset.create_or_open(place / "tokens", simulated_lineage("simulated"))
        dataset.store_tokenizer(tokenizer)
        encode = SleepingEncodeConfig(
            batch_size=config.batch_size,
            num_actors=self.num_gpus,
            num_cpus_per_actor=_CPUS_PER_ENCODER,
            num_gpus_per_actor=1,
            clip_s=self.clip_s,
            clock_directory=str(place / "clocks"),
        )
        target = CommitTarget(str(place / "tokens"), StorageConfig(), "simulated", config.commit)
        decode = MadeUpDecodeSpec.of_clips(self.clips_per_unit)
        units = synthetic_units(self.num_units)
        result = run_on_ray(units, decode, encode, config.engine, target)
        num_clips = self.num_units * self.clips_per_unit
        if result.committed.num_clips != num_clips:
            raise PipelineError(
                f"{result.committed.num_clips} clips were committed instead of {num_clips}"
            )
        return result


def _measured_size(config: ClusterBenchmarkConfig, place: Path, num_gpus: int) -> ClusterFigures:
    run = _Run(num_gpus, config.num_units(num_gpus), config.clips_per_unit, config.clip_s)
    began_s = time.monotonic()
    result = run.carry_out(config, place)
    figures = cluster_figures(
        read_work_logs(place / "clocks"),
        num_gpus,
        whole_run_s=time.monotonic() - began_s,
        commit_busy_s=result.flow.busy_s,
    )
    logger.info("%d GPUs: %.2f clips/s", num_gpus, figures.steady_clips_per_s)
    return figures


def _measured_driver(
    config: ClusterBenchmarkConfig, place: Path, clips_per_unit: int
) -> DriverFigures:
    num_units = config.driver.num_units
    before_bytes = reset_peak()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    _Run(1, num_units, clips_per_unit, _INSTANT_S).carry_out(config, place)
    return DriverFigures(
        num_units=num_units,
        clips_per_unit=clips_per_unit,
        whole_run_s=time.monotonic() - began_s,
        cpu_s=time.process_time() - began_cpu_s,
        grown_bytes=peak_bytes() - before_bytes,
    )
