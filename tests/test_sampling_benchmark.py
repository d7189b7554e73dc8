"""The sampling benchmark: what it counts is there, and only legal draws are called so."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.generator.model import GeneratorConfig
from pipeline.generator.sampling_benchmark import (
    SamplingBenchmarkConfig,
    VocabularySizes,
    benchmark_sampling,
)


def test_all_contenders_draw_from_one_model(tmp_path: Path) -> None:
    config = SamplingBenchmarkConfig(
        model=GeneratorConfig(width=16, head_dim=8, depth=1),
        vocabulary=VocabularySizes(num_words=8, num_spatial_tokens=4, num_temporal_tokens=4),
        batch_size=3,
        num_rounds=2,
        device="cpu",
        output=str(tmp_path / "result.json"),
    )
    table = benchmark_sampling(config)
    draws = json.loads((tmp_path / "result.json").read_text())["draws"]
    assert set(draws) == {line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]}
    for name, rounds in draws.items():
        assert len(rounds) == 2
        if name.startswith("sample"):
            # Eight tokens and the end, for each of three sequences.
            assert all(one["num_ids"] == 27 and one["is_legal"] for one in rounds)
        else:
            assert not any(one["is_legal"] for one in rounds), "nothing keeps the library's legal"
