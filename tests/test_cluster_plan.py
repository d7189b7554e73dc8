"""Planning a cluster from measured costs: by hand-made arithmetic, files and a real cluster."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster import connected_nodes
from pipeline.cluster_plan import NodeShape, plan_cluster
from pipeline.cluster_plan_job import PlanClusterConfig, plan_report, warn_if_lopsided
from pipeline.errors import PipelineError
from pipeline.stage_costs import StageCosts, read_costs

# A core decodes 50 clips/s; a GPU encodes 500 clips/s and its host spends 2 ms on each.
GPU_COSTS = StageCosts(0.02, 0.002, 0.002, 0.001, clip_bytes=3_000_000)
CPU_COSTS = StageCosts(0.03, 0.01)


def test_a_gpu_node_needs_more_cores_than_it_has() -> None:
    plan = plan_cluster(GPU_COSTS, [NodeShape(num_cpus=46, num_gpus=8)])
    assert GPU_COSTS.cores_per_gpu == pytest.approx(11.5)
    assert plan.gpu_clips_per_s == pytest.approx(4000)
    assert plan.clips_per_s == pytest.approx(2000)  # 46 cores at 23 ms per clip
    assert plan.is_decode_bound
    assert (plan.idle_gpu_share, plan.idle_core_share) == pytest.approx((0.5, 0.0))
    assert plan.missing_cores == pytest.approx(46)
    warning = plan.warning()
    assert warning is not None
    assert "46 cores feed only 50% of its 8 GPUs; a GPU needs 12 cores, so 46 more" in warning


def test_more_cpu_nodes_even_it_out_and_too_many_idle() -> None:
    gpu_node = NodeShape(num_cpus=46, num_gpus=8)
    even = plan_cluster(GPU_COSTS, [gpu_node, NodeShape(num_cpus=23, num_nodes=2)])
    assert even.clips_per_s == pytest.approx(4000)
    assert even.warning() is None
    crowded = plan_cluster(GPU_COSTS, [gpu_node, NodeShape(num_cpus=138, num_nodes=1)])
    assert crowded.clips_per_s == pytest.approx(4000)
    assert not crowded.is_decode_bound
    assert crowded.idle_core_share == pytest.approx(0.5)
    assert "8 GPUs use only 50% of its 184 cores" in (crowded.warning() or "")
    assert crowded.warning(max_idle_share=0.6) is None


def test_without_a_gpu_cores_are_shared_and_never_lopsided() -> None:
    plan = plan_cluster(CPU_COSTS, [NodeShape(num_cpus=16)])
    assert plan.clips_per_s == pytest.approx(400)
    assert plan.warning() is None
    assert math.isnan(CPU_COSTS.cores_per_gpu)
    assert plan.settings() == {"encode.in_decode_tasks": True}


@given(
    st.floats(1e-4, 1), st.floats(1e-4, 1), st.floats(1e-4, 1), st.integers(1, 512),
    st.integers(1, 64),
)  # fmt: skip
def test_one_kind_is_always_busy_and_nothing_beyond_it(
    decode_s: float, host_s: float, gpu_s: float, num_cpus: int, num_gpus: int
) -> None:
    costs = StageCosts(decode_s, host_s, gpu_s)
    plan = plan_cluster(costs, [NodeShape(num_cpus=num_cpus, num_gpus=num_gpus)])
    assert min(plan.idle_gpu_share, plan.idle_core_share) == pytest.approx(0, abs=1e-9)
    assert plan.clips_per_s * costs.core_s <= num_cpus * (1 + 1e-9)
    assert plan.clips_per_s * costs.encode_gpu_s <= num_gpus * (1 + 1e-9)
    more = plan_cluster(costs, [NodeShape(num_cpus=num_cpus + plan.missing_cores, num_gpus=1)])
    assert more.num_cpus >= costs.cores_per_gpu * num_gpus * (1 - 1e-9)


def _result(path: Path, mode: str, decode_s: float, encode_s: float, num_gpus: float = 0) -> str:
    def side(core_s: float, **more: float) -> dict[str, float]:
        return {"cpu_s_per_clip": core_s, "num_gpus": 0.0, "clips_per_s": 1.0} | more

    rounds = [
        {
            "decode": side(decode_s * factor),
            "encode": side(encode_s * factor, num_gpus=num_gpus, clips_per_s=400 / factor),
            "pipeline": side((decode_s + encode_s) * factor * 1.5),
        }
        for factor in (1.0, 0.5, 2.0)
    ]
    values = {"config": {"mode": mode}, "rounds": rounds, "clip": {"pixel_bytes": 1000}}
    path.write_text(json.dumps(values))
    return str(path)


def test_costs_are_medians_each_from_where_it_was_measured(tmp_path: Path) -> None:
    real = _result(tmp_path / "real.json", "real", 0.02, 0.01)
    assert read_costs([real]) == StageCosts(0.02, 0.01, 0.0, pytest.approx(0.015), 1000)
    films = _result(tmp_path / "films.json", "null_encoder", 0.04, 0.0001)
    noise = _result(tmp_path / "noise.json", "synthetic_frames", 0.0002, 0.001, num_gpus=1)
    for order in ([films, noise], [noise, films]):
        costs = read_costs(order)
        assert costs.decode_core_s == 0.04
        assert costs.encode_core_s == 0.001
        assert costs.encode_gpu_s == pytest.approx(1 / 400)


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    noise = _result(tmp_path / "noise.json", "synthetic_frames", 0.0002, 0.001)
    with pytest.raises(PipelineError, match="none of the results measured decoding"):
        read_costs([noise])
    with pytest.raises(PipelineError, match=r"jobs/bench_pipeline.py, whose `output` it is"):
        read_costs([tmp_path / "nothing.json"])
    (tmp_path / "other.json").write_text('{"rounds": [1]}')
    with pytest.raises(PipelineError, match="no result of this version"):
        read_costs([tmp_path / "other.json"])
    on_gpu = _result(tmp_path / "gpu.json", "real", 0.02, 0.001, num_gpus=1)
    with pytest.raises(PipelineError, match="no node has one"):
        plan_cluster(read_costs([on_gpu]), [NodeShape(num_cpus=4)])


def _config(costs: str, out: Path, **changes: Any) -> PlanClusterConfig:
    values = {"costs": [costs], "output": str(out / "plan.json")}
    return PlanClusterConfig.from_mapping(values | changes)


def test_a_report_for_people_and_one_for_programs(tmp_path: Path) -> None:
    costs = _result(tmp_path / "gpu.json", "real", 0.02, 0.002, num_gpus=1)
    nodes = [{"num_cpus": 16, "num_gpus": 2}, {"num_cpus": 8}]
    report = plan_report(_config(costs, tmp_path, nodes=nodes, num_clips=10**6))
    text = report.text()
    assert "1 node of 16 cores and 2 GPUs + 1 node of 8 cores: 727.3 clips/s" in text
    assert "1,000,000 clips take 0.4 hours" in text
    assert "1 more node of 8 cores" in text
    assert "warning" not in text
    stored = json.loads((tmp_path / "plan.json").read_text())
    assert stored["limited_by"] == "decoding"
    assert stored["cores_per_gpu"] == pytest.approx(13.2)
    assert stored["settings"]["encode.num_actors"] == 2


@pytest.mark.ray
def test_the_connected_cluster_is_planned_and_warned_about(
    ray_cluster: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert [(shape.num_cpus, shape.num_nodes) for shape in connected_nodes()] == [(2, 1)]
    costs = _result(tmp_path / "cpu.json", "real", 0.02, 0.01)
    assert plan_report(_config(costs, tmp_path)).plan.clips_per_s == pytest.approx(2 / 0.045)
    with caplog.at_level(logging.WARNING):
        warn_if_lopsided([costs])
        warn_if_lopsided([])
        assert not caplog.records
        warn_if_lopsided([_result(tmp_path / "gpu.json", "real", 0.02, 0.01, num_gpus=1)])
    (record,) = caplog.records
    assert "measured on a GPU, but no node has one" in record.message
