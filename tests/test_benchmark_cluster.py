"""The simulated cluster: the real engine over sleeping encoders, and figures from their clocks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.scaling.cluster_config import ClusterBenchmarkConfig
from pipeline.scaling.cluster_figures import ClusterFigures, cluster_figures
from pipeline.scaling.cluster_report import ClusterReport
from pipeline.throughput.clocks import WorkLog
from sweettok.errors import ConfigError
from tests.job_runs import REPOSITORY, job_environment


@pytest.mark.jobs
def test_two_simulated_gpus_do_the_work_of_two(tmp_path: Path) -> None:
    """In a process of its own: it starts a cluster, and so does the session's fixture."""
    settings = {
        "num_gpus": "[1,2]", "clip_s": 0.05, "batch_size": 4, "clips_per_unit": 4,
        "duration_s": 12, "driver.num_units": 3, "driver.clips_per_unit": "[1,8]",
        "scratch": tmp_path / "scratch", "output": tmp_path / "cluster.json",
        "picture": tmp_path / "cluster.png",
    }  # fmt: skip
    overrides = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "jobs/benchmark_cluster.py", *overrides]
    command += ["--config", "configs/benchmark_cluster.yaml"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=job_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| GPUs | clips |" in done.stdout
    stored = json.loads((tmp_path / "cluster.json").read_text())
    one, two = stored["sizes"]
    assert (one["num_clips"], two["num_clips"]) == (240, 480)
    # Encoders that sleep cannot be faster than they are; how close they come is the benchmark's.
    for size in (one, two):
        assert 0 < size["steady_clips_per_s"] <= size["num_gpus"] / 0.05
        assert 0 < size["idlest_encoder_busy"] <= size["encoder_busy"] <= 1
        assert size["whole_run_s"] > size["steady_s"]
    assert [each["clips_per_unit"] for each in stored["driver"]] == [1, 8]
    assert not (tmp_path / "scratch").exists()
    with Image.open(tmp_path / "cluster.png") as picture:
        assert picture.width > 800


def _log(first_s: float, *pieces: tuple[float, int]) -> WorkLog:
    """A log of pieces of work (seconds, clips), with a pause of half a second after each."""
    ended, moment_s = [], first_s
    for busy_s, _ in pieces:
        ended.append(moment_s + busy_s)
        moment_s += busy_s + 0.5
    busy, clips = zip(*pieces, strict=True)
    return WorkLog("encode", 1, first_s, tuple(ended), busy, clips)


def test_figures_are_of_the_time_in_which_all_encoders_worked() -> None:
    early = _log(0.0, (1.0, 2), (1.0, 2), (1.0, 2), (1.0, 2))  # works in 0–1, 1.5–2.5, 3–4, 4.5–5.5
    late = _log(2.0, (2.0, 4), (2.0, 4))  # works in 2–4, 4.5–6.5
    figures = cluster_figures([early, late], 2, whole_run_s=9, commit_busy_s=1)
    assert figures.num_clips == 16
    assert figures.steady_s == pytest.approx(3.5)  # 2–5.5
    assert figures.steady_clips_per_s == pytest.approx((1 + 2 + 2 + 4 + 2) / 3.5)
    assert figures.encoder_busy == pytest.approx((2.5 + 3.0) / 7)
    assert figures.idlest_encoder_busy == pytest.approx(2.5 / 3.5)
    assert (figures.ramp_s, figures.tail_s) == (2.0, 1.0)


def test_a_run_without_a_steady_state_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"1 of 2 encoders had work; raise duration_s"):
        cluster_figures([_log(0, (1.0, 2))], 2, whole_run_s=9, commit_busy_s=1)
    logs = [_log(0, (1.0, 2)), _log(2, (1.0, 2))]
    with pytest.raises(PipelineError, match=r"done 1\.0 s before the last one began; raise"):
        cluster_figures(logs, 2, whole_run_s=9, commit_busy_s=1)


def test_scaling_is_told_by_throughput_per_gpu() -> None:
    sizes = tuple(
        ClusterFigures(num, 100, 10, rate, 0.9, 0.9, 1, 1, 20, 1)
        for num, rate in ((1, 10.0), (2, 19.0), (4, 37.0))
    )
    report = ClusterReport(sizes, (), clip_s=0.1, goal=0.95, num_cpus=2)
    assert [report.scaling(each) for each in sizes] == pytest.approx([1, 0.95, 0.925])
    assert not report.is_met
    assert "0.925 or more; goal 0.95: missed" in report.text()


def test_cluster_sizes_must_grow() -> None:
    with pytest.raises(ConfigError, match="must be growing numbers"):
        ClusterBenchmarkConfig.from_mapping({"num_gpus": [4, 2]})
    assert ClusterBenchmarkConfig(clip_s=0.5, clips_per_unit=16, duration_s=60).num_units(2) == 15


def test_simulated_stages_load_no_torch() -> None:
    check = "import sys, pipeline.scaling.simulated_stages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
