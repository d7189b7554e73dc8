"""The benchmark: operations counted by hand, both sides on one small model, the job's table."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from sweettok import SweetTokConfig
from sweettok.benchmarking.benchmark import BenchmarkConfig, run_benchmark
from sweettok.benchmarking.comparison import ComparisonConfig
from sweettok.benchmarking.measurement import Timing, count_flops, time_alternating
from sweettok.benchmarking.memory import peak_memory
from sweettok.benchmarking.restatement import PlainAttention, PlainEncoding
from sweettok.benchmarking.subjects import random_lexicon, random_video
from sweettok.benchmarking.sweep import SweepConfig
from sweettok.strict_config import load_config
from tests.tiny_models import tiny_config

CONFIGS = Path(__file__).parents[1] / "configs"


def test_counted_operations_are_those_of_the_products_and_of_fused_attention() -> None:
    query = torch.randn(2, 3, 5, 4)
    key = torch.randn(2, 3, 7, 4)
    fused = count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(query, key, key))
    assert fused == 2 * 3 * (2 * 5 * 7 * 4) * 2
    assert count_flops(lambda: query @ key.mT) == 2 * 3 * 2 * 5 * 7 * 4


def test_plain_attention_is_the_fused_one() -> None:
    torch.manual_seed(0)
    attention = PlainAttention(16, 8).requires_grad_(False)
    sequence = torch.randn(3, 5, 16)

    def heads(projected: torch.Tensor) -> torch.Tensor:
        return projected.view(3, 5, 2, 8).transpose(1, 2)

    mixed = torch.nn.functional.scaled_dot_product_attention(
        heads(attention.to_query(sequence)),
        heads(attention.to_key(sequence)),
        heads(attention.to_value(sequence)),
        is_causal=True,
    )
    expected = attention.to_output(mixed.transpose(1, 2).reshape(3, 5, 16))
    assert torch.allclose(attention(sequence, sequence, causal=True), expected, atol=1e-5)


def test_the_restatement_gives_three_indices_per_query() -> None:
    config = tiny_config()
    encode = PlainEncoding(config, random_lexicon(config, num_edges=50)).eval()
    spatial, temporal = encode(random_video(config.geometry, batch=2))
    assert spatial.shape == (2, 24 // config.spatial_queries.cells_per_query**2, 3)
    assert temporal.shape == (2, 2 * 24 // config.temporal_queries.cells_per_query**2, 3)
    half = config.num_spatial_words // 2
    assert bool((spatial[..., :2] >= half).all())
    assert bool((spatial[..., 2] < half).all())


def test_calls_alternate_and_medians_count() -> None:
    order: list[str] = []
    timings = time_alternating(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, num_repeats=3
    )
    assert order == ["a", "b"] * 4
    assert len(timings["a"].wall_s) == 3
    assert Timing((3.0, 1.0, 9.0), (1.0, 5.0, 2.0)).median_wall_s == 3
    assert Timing((3.0, 1.0, 9.0), (1.0, 5.0, 2.0)).median_cpu_s == 2


def test_the_benchmark_prints_tables_and_writes_everything(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "numbers.json"
    config = BenchmarkConfig(
        model=tiny_config(),
        comparison=ComparisonConfig(
            num_repeats=2, num_threads=1, num_edges=50, measure_memory=False
        ),
        sweep=SweepConfig(
            device="cpu",
            batch_sizes=(1, 2),
            precisions=("fp32",),
            compile=False,
            num_repeats=1,
            num_warmups=1,
            num_edges=50,
        ),
        output=str(output),
    )
    text = run_benchmark(config)
    assert "restatement" in text
    assert "CPU seconds" in text
    written = json.loads(output.read_text())
    assert written["comparison"]["cpu_ratio"] > 0
    assert [row["batch_size"] for row in written["sweep"]] == [1, 2]
    assert all(row["spatial_ids_changed"] == 0 for row in written["sweep"])


@pytest.mark.jobs
def test_peak_memory_is_measured_in_a_process_of_its_own() -> None:
    memory = peak_memory("restatement", tiny_config(), num_edges=50)
    assert 50 * 2**20 < memory.loaded_bytes <= memory.peak_bytes < 4 * 2**30


def test_the_shipped_benchmark_has_the_paper_s_geometry() -> None:
    config = load_config(BenchmarkConfig, CONFIGS / "benchmark_model.yaml")
    base = load_config_model(CONFIGS / "train_base.yaml")
    assert config.model.geometry == base.geometry
    assert (config.model.width, config.model.encoder) == (base.width, base.encoder)
    assert config.model.num_tokens == base.num_tokens


def load_config_model(path: Path) -> SweetTokConfig:
    import yaml

    return SweetTokConfig.from_mapping(yaml.safe_load(path.read_text())["model"])


@pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get("REQUIRE_GPU") != "1",
    reason="needs a CUDA device (REQUIRE_GPU=1 makes this a failure)",
)
def test_events_time_a_gpu() -> None:
    matrix = torch.randn(1024, 1024, device="cuda")
    timings = time_alternating({"product": lambda: matrix @ matrix}, num_repeats=3, device="cuda")
    assert 0 < timings["product"].median_wall_s < 1
