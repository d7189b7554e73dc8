"""The benchmark of planning: a right plan at every size, and all numbers in its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.planning_benchmark import PlanningBenchmarkConfig, run_planning_benchmark
from pipeline.synthetic_corpus import write_manifest
from sweettok.errors import ConfigError


def test_it_measures_right_plans_only(tmp_path: Path) -> None:
    values = {"num_videos": [1000, 3000], "directory": str(tmp_path), "clips_per_video": 2}
    config = PlanningBenchmarkConfig.from_mapping(values | {"output": str(tmp_path / "out.json")})
    report = run_planning_benchmark(config)
    assert [it.num_units for it in report.measurements] == [1, 3]
    assert all(it.peak_bytes >= it.idle_bytes > 0 for it in report.measurements)
    assert report.table().count("\n") == 4
    stored = json.loads((tmp_path / "out.json").read_text())
    assert [it["num_videos"] for it in stored["measurements"]] == [1000, 3000]
    # The corpus of the next size is used again; with another manifest the plan is not that one.
    write_manifest(tmp_path / "3000x2" / "manifest.parquet", 5000)
    with pytest.raises(PipelineError, match=r"of 3000 rows 2003 were planned instead of 3"):
        run_planning_benchmark(config)


def test_sizes_must_grow() -> None:
    with pytest.raises(ConfigError, match="must be growing sizes"):
        PlanningBenchmarkConfig.from_mapping(
            {"num_videos": [10, 5], "directory": "x", "output": "y"}
        )
