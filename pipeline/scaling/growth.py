"""Measures every step at every size: what `jobs/benchmark_scaling.py` runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.scaling.corpora import corpus
from pipeline.scaling.growth_config import STEPS, ScalingBenchmarkConfig
from pipeline.scaling.growth_report import ScalingReport
from pipeline.scaling.growth_steps import Measurement, Work, measure_apart
from pipeline.scaling.report_files import write_report

logger = logging.getLogger(__name__)


def benchmark_scaling(config: ScalingBenchmarkConfig) -> ScalingReport:
    """Makes the corpora that are not there yet, measures, writes the JSON file and the picture.

    Raises:
        PipelineError: A step failed, or did something else than it should.
    """
    report = ScalingReport(
        measurements=tuple(_by_size(config)),
        by_clips=tuple(_by_clips(config)),
        predicted_num_units=config.predicted_num_units,
        num_cpus=os.cpu_count() or 1,
    )
    write_report(report, config.output, config.picture)
    return report


def _by_size(config: ScalingBenchmarkConfig) -> Iterator[Measurement]:
    clips, smallest = config.clips_per_unit, config.num_units[0]
    for step in STEPS:
        if step == "index":
            for num_units in config.index_num_units:
                yield _measured(Work(step, Path(), num_units, 0, config.units_per_commit))
            continue
        per_commit = config.units_per_commit if step == "commit_all" else smallest
        for num_units in config.num_units:
            folder = corpus(config, num_units, clips)
            yield _measured(Work(step, folder, num_units, clips, per_commit))


def _by_clips(config: ScalingBenchmarkConfig) -> Iterator[Measurement]:
    for clips in config.clips_of_fixed_units:
        folder = corpus(config, config.fixed_units, clips)
        yield _measured(Work("diff", folder, config.fixed_units, clips, config.units_per_commit))


def _measured(work: Work) -> Measurement:
    measurement = measure_apart(work)
    logger.info("%s of %d videos: %.2f s", work.step, work.num_units, measurement.wall_s)
    return measurement
