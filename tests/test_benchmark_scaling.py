"""The benchmark of growth: right work at every size, laws that hold, all numbers in its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset import TokenDataset
from pipeline.errors import PipelineError
from pipeline.scaling.corpora import DATASET, MANIFEST, copied_dataset, corpus
from pipeline.scaling.curves import fitted_curve, last_decade_line
from pipeline.scaling.growth import benchmark_scaling
from pipeline.scaling.growth_config import STEPS, ScalingBenchmarkConfig
from pipeline.scaling.growth_steps import Work, measure_apart
from pipeline.synthetic_corpus import write_manifest
from sweettok.errors import ConfigError

SIZES = [1000, 2000, 3000, 4000]
DECADES = [10**power for power in range(3, 7)]


def _config(folder: Path, **changes: Any) -> ScalingBenchmarkConfig:
    values: dict[str, Any] = {
        "num_units": SIZES,
        "index_num_units": SIZES,
        "clips_per_unit": 2,
        "fixed_units": 1000,
        "clips_of_fixed_units": [2, 20],
        "units_per_commit": 1500,
        "directory": str(folder / "corpora"),
        "output": str(folder / "scaling.json"),
        "picture": str(folder / "scaling.png"),
    }
    return ScalingBenchmarkConfig.from_mapping(values | changes)


@pytest.mark.jobs
def test_every_step_is_measured_at_every_size(tmp_path: Path) -> None:
    report = benchmark_scaling(_config(tmp_path))
    found = [(each.step, each.num_units) for each in report.measurements]
    assert found == [(step, size) for step in STEPS for size in SIZES]
    for each in (*report.measurements, *report.by_clips):
        assert each.peak_bytes >= each.idle_bytes > 0
        assert each.wall_s > 0
    assert [each.clips_per_unit for each in report.by_clips] == [2, 20]
    stored = json.loads((tmp_path / "scaling.json").read_text())
    assert len(stored["measurements"]) == len(found)
    assert stored["curves"]["diff"]["cpu_s"]["predicted"] > 0
    with Image.open(tmp_path / "scaling.png") as picture:
        assert picture.height > 900
    text = report.text()
    assert all(text.count(f"| {step} | ") == len(SIZES) + 2 for step in STEPS)
    assert "100,000,000 videos of which nearly all are known are planned in" in text
    assert not list((tmp_path / "corpora").glob("*/commit_*"))


def test_a_step_that_does_other_work_is_no_measurement(tmp_path: Path) -> None:
    folder = corpus(_config(tmp_path), 3000, 2)
    assert corpus(_config(tmp_path), 3000, 2) == folder  # made once
    write_manifest(folder / MANIFEST, 5000)
    with pytest.raises(PipelineError, match=r"2003 videos were planned instead of 3; remove .*x2"):
        measure_apart(Work("diff", folder, 3000, 2, 1000))


def test_a_copied_dataset_is_one_of_its_own(tmp_path: Path) -> None:
    folder = corpus(_config(tmp_path), 1000, 2)
    copied = TokenDataset.open(copied_dataset(folder / DATASET, tmp_path / "copy"))
    assert copied.num_clips() == 2 * 999
    wanted = copied.finished_units().to_table()["video_id"].combine_chunks()
    copied.delete_videos(wanted, run_id="run", reason="test")
    assert copied.num_clips() == 0
    assert TokenDataset.open(folder / DATASET).num_clips() == 2 * 999


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_a_law_is_found_again(exponent: float) -> None:
    costs = [3 + 0.002 * size**exponent for size in DECADES]
    curve = fitted_curve(DECADES, costs, 10**8)
    assert curve.exponent_low <= exponent <= curve.exponent_high
    assert curve.exponent == pytest.approx(exponent)
    assert curve.predicted == pytest.approx(3 + 0.002 * 10 ** (8 * exponent), rel=1e-3)
    assert curve.at(10**4) == pytest.approx(costs[1])


def test_noise_widens_what_a_law_predicts() -> None:
    sizes = [10**3, 3 * 10**3, 10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6]
    noise = 1 + 0.1 * np.random.default_rng(0).uniform(-1, 1, len(sizes))
    noisy = fitted_curve(sizes, [1e-5 * n * e for n, e in zip(sizes, noise, strict=True)], 10**8)
    assert noisy.exponent == 1.0
    assert noisy.exponent_low <= 1.0 < noisy.exponent_high
    assert noisy.predicted_low < 1000 < noisy.predicted_high
    constant = fitted_curve(sizes, list(noise), 10**8)
    assert constant.at(10**6) == pytest.approx(1, rel=0.1)


def test_memory_that_fills_up_first_is_told_by_its_last_decade() -> None:
    sizes = [10**power for power in range(3, 8)]
    filling = [min(size, 10**5) * 1000 + size * 50 for size in sizes]  # full beyond 100,000
    curve = last_decade_line(sizes, filling, 10**8)
    assert (curve.slope, curve.at(10**7)) == pytest.approx((50, filling[-1]))
    ends = (curve.predicted_low, curve.predicted, curve.predicted_high)
    assert ends == pytest.approx((5.1e9, 5.1e9, 5.1e9))


def test_sizes_must_grow(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be growing numbers"):
        _config(tmp_path, num_units=[10, 5, 20, 40])
    with pytest.raises(ConfigError, match="num_units"):
        _config(tmp_path, num_units=[10, 20, 30])


MEMORY_CHECK = """
from pipeline.scaling.process_memory import peak_bytes, reset_peak
idle = reset_peak()
block = bytearray(60_000_000); block[::1000] = b"x" * 60_000
del block
grown = peak_bytes()
assert grown - idle > 55_000_000, (idle, grown)
assert reset_peak() < grown - 50_000_000 < peak_bytes() + 60_000_000
assert peak_bytes() < grown - 50_000_000
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_a_peak_is_seen_after_it_is_over_and_can_be_forgotten() -> None:
    subprocess.run([sys.executable, "-c", MEMORY_CHECK], check=True)
