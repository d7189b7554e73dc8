"""The dry run: which videos it looks at, what it makes of them, and that it leaves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.cluster_plan import NodeShape
from pipeline.dataset import TokenDataset
from pipeline.errors import LineageError, PipelineError
from pipeline.estimation.estimate import estimate_corpus
from pipeline.estimation.measuring import EncodingCost
from pipeline.estimation.prediction import Cluster, Stages, predict
from pipeline.estimation.sampling import (
    Estimated,
    Stratum,
    draw,
    student_quantile,
    total_by_bytes,
    total_by_number,
)
from pipeline.records import ListedVideo, WorkUnit
from pipeline.tokenization import TokenizeConfig
from pipeline.unit_table import UnitTable
from tests.in_process_run import tokenize_in_process
from tests.tiny_corpus import CLIPS_PER_GOOD_VIDEO, make_corpus, tokenize_config, tokenize_values
from tests.video_factory import make_video


def units_of(sizes: list[int]) -> UnitTable:
    return UnitTable.from_units(
        WorkUnit.from_listed(ListedVideo(f"file:///{number}.mp4", size, "v"))
        for number, size in enumerate(sizes)
    )


def drawn(strata: list[Stratum[WorkUnit]]) -> list[str]:
    return [unit.uri for stratum in strata for unit in stratum.sample]


def test_a_draw_is_seeded_covers_all_sizes_and_takes_a_giant_for_certain() -> None:
    sizes = [*range(100, 1100), 10_000_000]
    units = units_of(sizes)
    strata = draw(units, 12, seed=3)
    assert drawn(strata) == drawn(draw(units, 12, seed=3)) != drawn(draw(units, 12, seed=4))
    assert len(set(drawn(strata))) == 12
    assert "file:///1000.mp4" in drawn(strata)
    assert sum(stratum.num_videos for stratum in strata) == len(sizes)
    assert sum(stratum.size_bytes for stratum in strata) == sum(sizes)


@pytest.mark.parametrize("sizes", [[0], [0, 0, 0, 0, 0], [5, 0], [7, 7, 7]])
def test_a_small_corpus_is_drawn_whole(sizes: list[int]) -> None:
    assert sorted(drawn(draw(units_of(sizes), 16, seed=0))) == [
        f"file:///{number}.mp4" for number in range(len(sizes))
    ]


def test_intervals_hold_the_true_total_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    sizes = np.exp(random.normal(13, 1, 400)).astype(int)
    clips = {
        f"file:///{i}.mp4": s * c
        for i, (s, c) in enumerate(zip(sizes, random.gamma(9, 1, 400), strict=True))
    }
    units = units_of(sizes.tolist())
    num_held, totals = 0, []
    for seed in range(200):
        total = total_by_bytes(
            draw(units, 30, seed),
            lambda unit: clips[unit.uri],
            lambda unit: unit.size_bytes,
            lambda unit: unit.size_bytes,
        )
        low, high = total.interval(0.9)
        num_held += low <= sum(clips.values()) <= high
        totals.append(total.value)
    assert 165 <= num_held <= 198
    assert np.mean(totals) == pytest.approx(sum(clips.values()), rel=0.03)


def test_totals_of_a_whole_corpus_are_exact() -> None:
    strata = [Stratum(2, 30, (10, 20)), Stratum(1, 70, (70,))]
    by_bytes = total_by_bytes(strata, lambda size: 3.0 * size, int, float)
    assert (by_bytes.value, by_bytes.standard_error) == pytest.approx((300.0, 0.0))
    by_number = total_by_number(strata, lambda size: size > 15)
    assert by_number.interval(0.9) == (2, 2)


def test_a_stratum_of_empty_files_does_not_divide_by_nothing() -> None:
    total = total_by_bytes([Stratum(4, 0, (0, 0))], lambda _: 0.0, int, float)
    assert total.value == 0


@pytest.mark.parametrize("degrees", [3, 5, 12, 40])
@pytest.mark.parametrize("probability", [0.8, 0.95, 0.975])
def test_quantiles_are_students(degrees: int, probability: float) -> None:
    exact = stats.t.ppf(probability, degrees)
    assert student_quantile(probability, degrees) == pytest.approx(exact, rel=0.02)


def plan_time(nodes: NodeShape, **changes: object) -> tuple[float, str, float]:
    values = tokenize_values(Path("corpus"), "tokenizer", Path("tokens")) | changes
    config = TokenizeConfig.from_mapping(values)
    stages = Stages(config.decode, config.encode, config.engine, num_units=1000)
    cost = EncodingCost(core_s=0.02, gpu_s=0.001 if nodes.num_gpus else 0.0)
    cluster = Cluster.of_nodes([nodes])
    found = predict(Estimated(300), Estimated(10_000), cost, stages, cluster, start_up_s=8)
    assert found.seconds.value == found.work.value + 8
    return found.work.value, found.limited_by, found.gpus


def test_the_scarcest_of_decode_tasks_encoders_and_cores_decides() -> None:
    # 300 s of decoding, 200 s of encoding.
    encoders: dict[str, object] = {"in_decode_tasks": False}
    assert plan_time(NodeShape(num_cpus=3), encode=encoders) == (
        pytest.approx(200),
        "encoding",
        0,
    )
    two = encoders | {"num_actors": 2}
    assert plan_time(NodeShape(num_cpus=3), encode=two)[:2] == (300, "decoding")
    fractions = {
        "encode": encoders | {"num_cpus_per_actor": 0.5},
        "engine": {"num_cpus_per_decode_task": 0.5},
    }
    seconds, limit, _ = plan_time(NodeShape(num_cpus=2), **fractions)
    assert (seconds, limit) == (pytest.approx(500 / 1.6), "the cores")


def test_processes_that_decode_and_encode_share_all_the_work() -> None:
    few = {"engine": {"num_decode_tasks": 2}}
    assert plan_time(NodeShape(num_cpus=8), **few) == (250, "decoding and encoding", 0)
    seconds, limit, _ = plan_time(NodeShape(num_cpus=8))
    assert (seconds, limit) == (pytest.approx(500 / 7.85), "the cores")
    with pytest.raises(PipelineError, match="takes 3 CPUs, and there are 2"):
        plan_time(NodeShape(num_cpus=2), engine={"num_cpus_per_decode_task": 3})


def test_gpus_encode_where_there_are_any_and_count_as_long_as_the_run_takes() -> None:
    seconds, limit, gpus = plan_time(NodeShape(num_cpus=9, num_gpus=2), encode={"num_actors": 2})
    assert (limit, gpus) == ("the cores", 2)
    seconds, limit, gpus = plan_time(NodeShape(num_cpus=200, num_gpus=1))
    assert (seconds, limit, gpus) == (pytest.approx(10), "encoding", 1)


def test_encoders_that_leave_no_room_to_decode_are_refused() -> None:
    with pytest.raises(PipelineError, match="leave 0 of 2 for decoding"):
        plan_time(NodeShape(num_cpus=2), encode={"num_actors": 2, "in_decode_tasks": False})


def test_an_estimate_of_a_corpus_looked_at_whole_is_what_a_run_does(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    corpus, root = make_corpus(tmp_path / "corpus"), tmp_path / "tokens"
    config = tokenize_config(
        corpus, tokenizer_directory, root, dry_run=True, estimate={"price_per_hour": 7.2}
    )
    before = sorted(tmp_path.rglob("*"))
    found = estimate_corpus(config)
    assert sorted(tmp_path.rglob("*")) == before
    assert found.num_videos == 6
    assert found.num_quarantined.interval(0.9) == (3, 3)
    assert set(found.reasons) == {"truncated", "not_a_video", "empty"}
    assert found.num_clips.interval(0.9)[0] == pytest.approx(3 * CLIPS_PER_GOOD_VIDEO, rel=0.35)
    text = "\n".join(found.lines())
    assert "listed 6 = 6 new + 0 changed + 0 known" in text
    assert "nothing was written" in text
    assert found.duration is not None
    cost = 7.2 * found.duration.seconds.value / 3600
    assert f"cost       {cost:,.4g} (" in text

    dataset = tokenize_in_process(config, batch_size=4)
    assert found.num_clips.value == pytest.approx(dataset.num_clips(), rel=0.25)
    num_bytes = sum(dataset.clips.file_sizes().values())
    assert found.num_bytes.value == pytest.approx(num_bytes, rel=0.25)
    after = estimate_corpus(config)
    assert (after.num_videos, after.duration) == (0, None)
    assert after.lines()[1].startswith("nothing to do")
    make_video(corpus / "more.mp4", num_frames=30)
    assert estimate_corpus(config).num_videos == 1


def test_of_a_long_video_a_part_stands_for_the_whole(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    (tmp_path / "corpus").mkdir()
    path = make_video(tmp_path / "corpus" / "long.mp4", num_frames=1800)
    limit = max(2**16, path.stat().st_size // 4)
    config = tokenize_config(
        path.parent, tokenizer_directory, tmp_path / "tokens", estimate={"bytes_per_video": limit}
    )
    found = estimate_corpus(config)
    assert found.num_clips.value == pytest.approx(200, rel=0.05)
    assert found.video_s.value == pytest.approx(1800 / 25, rel=0.05)


def test_a_dry_run_refuses_what_the_run_would_refuse(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    config = tokenize_config(corpus, tokenizer_directory, tmp_path / "tokens")
    dataset = tokenize_in_process(config, batch_size=4)
    other = tokenize_config(
        corpus, tokenizer_directory, tmp_path / "tokens", clips={"frame_stride": 2}
    )
    with pytest.raises(LineageError, match="frame_stride"):
        estimate_corpus(other)
    assert TokenDataset.open(tmp_path / "tokens").version == dataset.version
    on_gpus = tokenize_values(corpus, tokenizer_directory, tmp_path / "more") | {
        "estimate": {"nodes": [{"num_cpus": 8, "num_gpus": 1}]}
    }
    with pytest.raises(PipelineError, match="this machine has none to measure with"):
        estimate_corpus(TokenizeConfig.from_mapping(on_gpus))


def test_a_relative_error_widens_a_product() -> None:
    counted = Estimated(100, 3, 10)
    assert counted.times(2).standard_error == 6
    assert counted.times(2, 0.04).standard_error == pytest.approx(10)
    assert replace(counted, degrees=0).interval(0.9) == (100, 100)
