"""The benchmark: operations counted by hand, both sides on one small model, the job's table."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from sweettok import SweetTokConfig
from sweettok.benchmarking.benchmark import BenchmarkConfig, run_benchmark
from sweettok.benchmarking.comparison import ComparisonConfig, ComparisonResult, SideResult
from sweettok.benchmarking.measurement import Timing, count_flops, time_alternating
from sweettok.benchmarking.memory import MemorySubject, peak_memory
from sweettok.benchmarking.restated_blocks import SIMILARITY_SCALE, PlainAttention, Rotation
from sweettok.benchmarking.restatement import GraphConfig, PlainEncoding
from sweettok.benchmarking.subjects import random_lexicon, random_video
from sweettok.benchmarking.sweep import SweepConfig
from sweettok.encoder import QueryEncoder
from sweettok.strict_config import load_config
from tests.tiny_models import tiny_config

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL_GRAPH = GraphConfig(num_spatial_edges=50, num_temporal_edges=50, hidden_dim=16)
SMALL_SWEEP = SweepConfig(
    device="cpu",
    batch_sizes=(1, 2),
    precisions=("fp32",),
    compiler=None,
    num_repeats=1,
    num_warmups=1,
    matrix_edge=64,
)


def test_counted_operations_are_those_of_the_products_and_of_fused_attention() -> None:
    query = torch.randn(2, 3, 5, 4)
    key = torch.randn(2, 3, 7, 4)
    fused = count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(query, key, key))
    assert fused == 2 * 3 * (2 * 5 * 7 * 4) * 2
    assert count_flops(lambda: query @ key.mT) == 2 * 3 * 2 * 5 * 7 * 4


def test_plain_attention_is_attention_of_normalised_and_turned_queries_and_keys() -> None:
    torch.manual_seed(0)
    attention = PlainAttention(16, 8, causal=True).requires_grad_(False)
    attention.query_scale.uniform_(0.5, 2)
    attention.key_scale.uniform_(0.5, 2)
    sequence = torch.randn(3, 5, 16)
    rotation = Rotation(torch.arange(5.0).unsqueeze(-1), 8)
    keys, values = attention.to_key_value(sequence).split(16, dim=-1)
    expected = torch.zeros(3, 5, 16)
    for head in range(2):
        own = slice(8 * head, 8 * head + 8)
        query, key = attention.to_query(sequence)[..., own], keys[..., own]
        query = rotation(query / query.norm(dim=-1, keepdim=True) * attention.query_scale)
        key = rotation(key / key.norm(dim=-1, keepdim=True) * attention.key_scale)
        scores = query @ key.mT * SIMILARITY_SCALE
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        expected[..., own] = scores.softmax(dim=-1) @ values[..., own]
    found = attention(sequence, sequence, rotation)
    assert torch.allclose(found, attention.to_output(expected), atol=1e-5)


def test_rotation_keeps_lengths_and_makes_products_depend_on_distances() -> None:
    torch.manual_seed(0)
    rotation = Rotation(torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)), 8)
    query, key = (torch.randn(8).expand(1, 1, 16, 8) for _ in range(2))
    products = (rotation(query) @ rotation(key).mT)[0, 0]
    assert torch.allclose(rotation(query).norm(dim=-1), query.norm(dim=-1))
    assert torch.allclose(products[0, 5], products[5, 10], atol=1e-5)  # one row and column on
    assert not torch.allclose(products[0, 1], products[0, 4], atol=1e-2)


def test_the_restatement_gives_three_indices_per_query() -> None:
    config = tiny_config()
    lexicon = random_lexicon(config, SMALL_GRAPH)
    encode = PlainEncoding(config, lexicon, SMALL_GRAPH).eval()
    spatial, temporal = encode(random_video(config.geometry, batch=2))
    assert spatial.shape == (2, 24 // config.spatial_queries.cells_per_query**2, 3)
    assert temporal.shape == (2, 2 * 24 // config.temporal_queries.cells_per_query**2, 3)
    half = config.num_spatial_words // 2
    assert bool((spatial[..., :2] >= half).all())
    assert bool((spatial[..., 2] < half).all())


def test_the_restatement_has_the_published_sizes() -> None:
    """521 GFLOP and 89 M parameters in the released encoder; neither counts every small part."""
    config = load_config(BenchmarkConfig, CONFIGS / "benchmark_model.yaml")
    assert config.comparison is not None
    lexicon = random_lexicon(config.model, SMALL_GRAPH)
    restatement = PlainEncoding(config.model, lexicon, config.comparison.graph).to("meta")
    video = torch.empty(1, 3, 17, 256, 256, device="meta")
    num_parameters = sum(part.numel() for part in restatement.parameters())
    assert 0.94 < num_parameters / 89e6 < 1.03
    assert 0.98 < count_flops(lambda: restatement(video)) / 521e9 < 1.02


def test_ratios_with_and_without_the_codebooks() -> None:
    sides = tuple(
        SideResult(name, 1, Timing(seconds, seconds), 0.5, None)
        for name, seconds in (("restatement", (6.0, 9.0, 8.0)), ("ours", (2.0, 4.0, 5.0)))
    )
    result = ComparisonResult(sides, Timing((1.0, 3.0, 3.0), (1.0, 3.0, 3.0)), 1.0)
    assert result.cpu_ratio == 2
    assert result.cpu_ratio_with_stored_codes == 5 / 4


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
            num_repeats=2, num_threads=1, graph=SMALL_GRAPH, measure_memory=False
        ),
        sweep=SMALL_SWEEP,
        output=str(output),
    )
    text = run_benchmark(config)
    assert "restatement" in text
    assert "CPU seconds" in text
    written = json.loads(output.read_text())
    assert written["comparison"]["cpu_ratio"] > 0
    assert [row["batch_size"] for row in written["sweep"]] == [1, 2]
    assert written["comparison"]["cpu_ratio_with_stored_codes"] > 0
    assert all(row["spatial_ids_changed"] < 0.05 for row in written["sweep"])


def test_a_sweep_that_breaks_off_leaves_what_was_measured(tmp_path: Path) -> None:
    def run_out_of_memory(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, QueryEncoder) and len(inputs[0]) == 2:
            raise MemoryError("two clips")

    config = BenchmarkConfig(
        model=tiny_config(),
        comparison=None,
        sweep=SMALL_SWEEP,
        output=str(tmp_path / "numbers.json"),
    )
    hook = torch.nn.modules.module.register_module_forward_pre_hook(run_out_of_memory)
    with hook, pytest.raises(MemoryError, match="two clips"):
        run_benchmark(config)
    rows = json.loads((tmp_path / "numbers.json").read_text())["sweep"]
    assert [row["batch_size"] for row in rows] == [1]


@pytest.mark.jobs
def test_peak_memory_is_measured_in_a_process_of_its_own() -> None:
    memory = peak_memory("restatement", MemorySubject(model=tiny_config(), graph=SMALL_GRAPH))
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
