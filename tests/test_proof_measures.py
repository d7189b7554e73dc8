"""What the proof's measures, anchors, intervals and tables say, against slow restatements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.proof.anchors import (
    STILL_ROW,
    coarse_features,
    coarse_picture,
    frechet_floor,
    mean_picture,
    still_first_frame,
)
from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.evaluation import MAX_PSNR_DB, Instruments, features_distance, measure
from pipeline.proof.one_thread import one_thread
from pipeline.proof.probe import ridge_scores
from pipeline.proof.rows import RowConfig
from pipeline.proof.tables import Yardstick, markdown_tables, part_tables
from pipeline.proof.token_measures import costs_of, equal_ids_per_code, measure_tokenizer
from sweettok import ClipGeometry, Lexicon
from sweettok.baselines import build_variant
from sweettok.bootstrap import Interval, mean_interval
from tests.proof_samples import moving_squares, result_of, stored_clips
from tests.tiny_models import tiny_config

GEOMETRY = ClipGeometry(num_frames=9, height_px=32, width_px=32)
NOTHING = Instruments(network=None, perceptual=None, max_perceptual_clips=4)


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    """Small sums on many threads mostly wait for one another."""
    with one_thread(0):
        yield


def psnr_of(error: np.ndarray) -> float:
    return float(10 * np.log10(4 / np.square(error).mean()))


def test_still_pictures_score_what_arithmetic_says(tmp_path: Path) -> None:
    # Grey that brightens by two levels a frame: every error is known.
    videos = [np.full((9, 32, 32, 3), 10 + number, np.uint8) for number in range(3)]
    for frames in videos:
        frames += 2 * np.arange(9, dtype=np.uint8)[:, None, None, None]
    clips = stored_clips(tmp_path / "c", videos, GEOMETRY)
    steps = 2 * np.arange(9) * 2 / 255
    still = measure(still_first_frame, clips, NOTHING)
    assert still.summary["psnr_db"] == pytest.approx(psnr_of(steps), abs=1e-3)
    assert still.summary["frame_psnr_db"] == pytest.approx(
        [MAX_PSNR_DB, psnr_of(steps[1:5]), psnr_of(steps[5:9])], abs=1e-3
    )
    assert still.by_clip["frame_psnr_db"].shape == (3, 3)
    mean = measure(mean_picture, clips, NOTHING)
    assert mean.summary["psnr_db"] == pytest.approx(psnr_of(steps - steps.mean()), abs=1e-3)
    assert measure(coarse_picture, clips, NOTHING).summary["psnr_db"] > 80
    assert (still.summary["num_clips"], still.summary["num_videos"]) == (3, 3)


def test_coarse_pixels_tell_motions_that_still_pictures_do_not(tmp_path: Path) -> None:
    training = moving_squares(tmp_path / "a", GEOMETRY, seed=0)
    held_out = moving_squares(tmp_path / "b", GEOMETRY, seed=1)
    features = [coarse_features(clips) for clips in (training, held_out)]
    assert features[0].shape == (24, (9 + 8) * 4 * 4)
    named = ridge_scores(features[0], training.label_tensor, features[1]).argmax(dim=1)
    assert (named == held_out.label_tensor).double().mean() > 0.9


def test_the_floor_is_that_of_halves_of_the_videos() -> None:
    generator = np.random.default_rng(0)
    videos = tuple(number for number in range(60) for _ in range(2))
    of_video = generator.normal(size=(60, 3))
    features = torch.from_numpy(of_video[list(videos)] + 1e-3 * generator.normal(size=(120, 3)))
    floor = frechet_floor(features, videos, ())
    # Both clips of a video on one side: 30 against 30 vectors, as if each were there once.
    once = torch.from_numpy(of_video)
    splits = [torch.from_numpy(generator.permutation(60)) for _ in range(40)]
    expected = np.mean([features_distance(once[s[:30]], once[s[30:]]) for s in splits])
    assert floor == pytest.approx(expected, rel=0.4)
    assert floor > 3 * features_distance(features[::2], features[1::2])
    assert frechet_floor(features[:10], videos[:10], ()) is None
    # What only labels differ in is the same in both halves.
    labels = tuple(video // 6 for video in videos)
    by_label = torch.from_numpy(of_video[list(labels)] + 1e-3 * generator.normal(size=(120, 3)))
    assert frechet_floor(by_label, videos, labels) < 0.01 < frechet_floor(by_label, videos, ())


def test_intervals_count_videos_and_not_clips() -> None:
    generator = np.random.default_rng(1)
    videos = np.repeat(np.arange(40), 25)
    by_clip = 0.3 + generator.normal(size=40)[videos] + 0.01 * generator.normal(size=1000)
    found = mean_interval(by_clip, videos)
    assert found.mean == pytest.approx(by_clip.mean())
    assert found.low is not None
    assert found.high is not None
    half_width = 1.96 * by_clip.reshape(40, 25).mean(axis=1).std(ddof=1) / 40**0.5
    assert found.high - found.low == pytest.approx(2 * half_width, rel=0.15)
    assert found.low < found.mean < found.high
    few = mean_interval(by_clip[:50], videos[:50])
    assert (few.low, few.high) == (None, None)
    # Videos of many clips weigh more: the mean is over clips.
    uneven = mean_interval(np.array([1.0] * 20 + [0.0] * 5), [0] * 16 + [1, 2, 3, 4, *range(5, 10)])
    assert uneven.mean == pytest.approx(0.8)


def make_squares(directory: Path) -> ClipSet:
    return moving_squares(directory, GEOMETRY, seed=0)


def test_codebooks_are_counted_on_equally_many_ids_per_code(
    tmp_path: Path, lexicon: Lexicon
) -> None:
    clips = make_squares(tmp_path / "c")
    config = tiny_config(geometry=GEOMETRY.to_mapping())
    per_clip = equal_ids_per_code(config)
    # 16 spatial tokens for 96 words, 2 tubes of 4 tokens for 64.
    assert per_clip == pytest.approx(min(16 / 96, 8 / 64))
    for row in ("decoupled", "flattened"):
        model = build_variant(row, config, lexicon).eval()
        measures = measure_tokenizer(
            model, clips, NOTHING, usage_ids_per_code=24 * per_clip, probe_training=None
        )
        for name, found in measures.summary["ids_per_code"].items():
            assert found == pytest.approx(3.0, rel=0.02), name
        assert measures.summary["probe_bag"] is None


def test_costs_see_what_training_cannot_move(tmp_path: Path, lexicon: Lexicon) -> None:
    pixels = make_squares(tmp_path / "c").read(slice(2))
    costs = {}
    for cells, window in ((1, 1), (1, 2)):
        queries = {"cells_per_query": cells, "window_queries": window}
        config = tiny_config(geometry=GEOMETRY.to_mapping(), spatial_queries=queries)
        model = build_variant("decoupled", config, lexicon).eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        costs[window] = costs_of(model, pixels)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert costs[window].gflop_per_clip > 0.001
        assert costs[window].num_live_parameters <= model.num_parameters
    # One cell to look at: queries and keys decide nothing, in the encoder and in the decoder.
    queries_and_keys = 2 * config.width**2
    assert costs[2].num_live_parameters - costs[1].num_live_parameters >= 2 * queries_and_keys


def test_the_table_shows_means_spreads_and_what_is_missing() -> None:
    results = [result_of("decoupled", seed) for seed in (0, 1, 2)]
    results.append(
        result_of("patch", 0, psnr_db=15.0, usage={"union": 0.5}, perplexity={"union": 40.0})
    )
    results[0]["parts"]["near"]["perceptual"] = 0.125
    rows = [RowConfig.model_validate(name) for name in ("patch", "flattened", "decoupled")]
    anchors = [result_of(STILL_ROW, None, psnr_db=17.0, ssim=0.6)]
    differences = {("natural", "near", "patch"): {"psnr_db": Interval(-6.0, -7.0, -5.125)}}
    tables = part_tables(results, rows, anchors, differences)
    text = markdown_tables(tables, Yardstick(0.91, 64))
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert "33 clips of 7 videos" in text
    assert "counted on 3 ids per code" in text
    assert "91.0 %" in text
    assert "Fréchet" not in lines[0]
    sizes = ("1,234,567 (1,230,000)", "0.50")
    assert [line.strip("| ").split(" | ")[1:] for line in lines[1:4]] == [
        ["1", *sizes, "10", "1,280", "15.00", "0.500", "–", "50", "40"],
        [
            *("3", *sizes, "12", "1,280", "21.00 ± 1.00", "0.500 ± 0.000", "0.125"),
            *("25 / 75", "100 / 300"),
        ],
        ["–", "–", "–", "–", "–", "17.00", "0.600", "–", "–", "–"],
    ]
    assert "plain patch quantisation: in nothing; decoupled queries (the method): in PSNR" in text
    assert "| decoupled queries (the method) | 31.00 ± 1.00 | 20.00 ± 0.00 |" in text
    assert "| plain patch quantisation | -6.00 [-7.00, -5.12] |" in text
