"""The proof of the method: what its measures mean; its runs can be stopped and repeated."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.motion_corpus.sheet import MotionCorpusJobConfig
from pipeline.proof.anchors import STILL_ROW
from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.comparison import check_parameters, compare_methods
from pipeline.proof.comparison_config import CompareConfig
from pipeline.proof.corpora import NaturalVideoConfig, prepare_natural
from pipeline.proof.motion_network import (
    MotionNetworkConfig,
    MotionReading,
    load_motion_network,
)
from pipeline.proof.motion_training import ensure_motion_network
from pipeline.proof.one_thread import one_thread
from pipeline.proof.probe import PENALTIES, held_out_squares, probe_tokens, ridge_scores
from pipeline.proof.run_training import load_run
from sweettok import ClipGeometry, Lexicon, pixels_to_video
from sweettok.errors import ConfigError
from sweettok.strict_config import load_config
from sweettok.tokens import Tokens
from tests.job_runs import REPOSITORY
from tests.proof_samples import moving_squares
from tests.tiny_models import tiny_config
from tests.video_factory import make_video

NUM_CODES = 20


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    """Small sums on many threads mostly wait for one another."""
    with one_thread(0):
        yield


def random_tokens(num_clips: int, generator: torch.Generator) -> Tokens:
    return Tokens(
        torch.randint(0, NUM_CODES, (num_clips, 6), generator=generator),
        torch.randint(0, NUM_CODES, (num_clips, 8), generator=generator),
    )


def codes_for(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    spatial, temporal = torch.randn(2, NUM_CODES, 24, generator=generator)
    return spatial, temporal


def test_the_probe_finds_a_class_where_the_tokens_tell_it_and_nowhere_else() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = codes_for(generator)
    train, test = random_tokens(240, generator), random_tokens(120, generator)
    labels = {id(tokens): tokens.temporal[:, 3] % 4 for tokens in (train, test)}
    # The id at one place decides: a reader of places knows, a reader of bags hardly.
    told = probe_tokens(train, labels[id(train)], test, labels[id(test)], codes=codes)
    assert told.places > 0.7
    assert told.bag < 0.6
    # A word that occurs anywhere decides: now the bag knows.
    for tokens in (train, test):
        tokens.spatial[tokens.spatial == 7] = 8
        marked = torch.arange(len(tokens)) % 2 == 0
        tokens.spatial[marked, torch.arange(len(tokens))[marked] % 6] = 7
        labels[id(tokens)] = marked.long()
    told = probe_tokens(train, labels[id(train)], test, labels[id(test)], codes=codes)
    assert told.bag > 0.98
    # Labels that have nothing to do with the tokens stay at chance.
    unrelated = [torch.randint(0, 4, (len(t),), generator=generator) for t in (train, test)]
    told = probe_tokens(train, unrelated[0], test, unrelated[1], codes=codes)
    assert max(told.bag, told.places) < 0.4


@pytest.mark.parametrize("num_features", [5, 40])
def test_ridge_scores_are_those_of_the_penalty_with_the_least_refitted_error(
    num_features: int,
) -> None:
    generator = np.random.default_rng(num_features)
    train = generator.normal(size=(14, num_features)) + 3
    test = generator.normal(size=(6, num_features)) + 3
    labels = np.arange(14) % 3
    train[:, 0] += labels

    mean, spread = train.mean(axis=0), train.std(axis=0, ddof=1) * num_features**0.5
    x, x_test = (train - mean) / spread, (test - mean) / spread
    y = np.eye(3)[labels]

    def predict(rows: np.ndarray, wanted: np.ndarray, penalty: float) -> np.ndarray:
        """Fits to some rows, centred by themselves."""
        centre, offset = x[rows].mean(axis=0), y[rows].mean(axis=0)
        centred = x[rows] - centre
        weights = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(num_features), centred.T @ (y[rows] - offset)
        )
        return (wanted - centre) @ weights + offset

    def held_out_error(penalty: float) -> float:
        errors = [
            y[left_out] - predict(np.arange(14) != left_out, x[left_out], penalty)
            for left_out in range(14)
        ]
        return float(np.square(errors).mean())

    tensors = torch.from_numpy(x @ x.T), torch.from_numpy(y - y.mean(axis=0))
    values, vectors = torch.linalg.eigh(tensors[0])
    for penalty in PENALTIES:
        found = held_out_squares(values, vectors, vectors.T @ tensors[1], penalty)
        assert found == pytest.approx(held_out_error(penalty), rel=1e-6)
    best = min(PENALTIES, key=held_out_error)
    expected = predict(np.arange(14) >= 0, x_test, best)
    scores = ridge_scores(*map(torch.from_numpy, (train, labels, test)))
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-9)


def make_folder(folder: Path, **settings: Any) -> list[str]:
    """A folder with one numbered video."""
    folder.mkdir()
    make_video(folder / "video.mp4", **settings)
    return [str(folder)]


def grey_frames(num_frames: int) -> list[np.ndarray]:
    """Frames whose grey tells their number, whatever is cropped or mirrored."""
    return [np.full((64, 64, 3), 20 + 4 * number, np.uint8) for number in range(num_frames)]


def frame_numbers(clip: np.ndarray) -> list[int]:
    return [round((float(frame.mean()) - 20) / 4) for frame in clip]


def test_the_held_out_end_of_a_video_is_never_trained_on(tmp_path: Path) -> None:
    config = NaturalVideoConfig(
        train=tuple(make_folder(tmp_path / "train", frames=grey_frames(40))),
        heldout=tuple(make_folder(tmp_path / "other", frames=grey_frames(20))),
    )
    geometry = ClipGeometry(num_frames=5, height_px=32, width_px=32)
    corpus = prepare_natural(config, geometry, tmp_path / "frames")
    sampler = corpus.sampler(geometry, seed=0, batch_size=8)
    batches = [sampler.batch_at(step) for step in range(20)]
    assert {number for batch in batches for clip in batch for number in frame_numbers(clip)} == set(
        range(30)
    )
    near = corpus.held_out["near"].read(slice(None)).numpy()
    assert [frame_numbers(clip) for clip in near] == [[*range(30, 35)], [*range(34, 39)]]
    assert len(corpus.held_out["far"]) == 4
    assert prepare_natural(config, geometry, tmp_path / "frames") == corpus


def test_the_motion_network_sees_motion_and_is_trained_once(tmp_path: Path) -> None:
    geometry = ClipGeometry(num_frames=9, height_px=32, width_px=32)
    training = moving_squares(tmp_path / "train", geometry, seed=0)
    held_out = moving_squares(tmp_path / "test", geometry, seed=1)
    config = MotionNetworkConfig(width=8, num_features=16, num_steps=60, batch_size=8)
    path = ensure_motion_network(config, training, held_out, tmp_path / "out")
    trained = load_motion_network(path)
    written = path.stat().st_mtime_ns
    assert ensure_motion_network(config, training, held_out, tmp_path / "out") == path
    assert path.stat().st_mtime_ns == written

    reading = MotionReading(trained)
    for pixels in held_out.batches(10):
        reading.add(pixels_to_video(pixels))
    assert trained.accuracy > 0.9
    assert (reading.named == held_out.label_tensor).double().mean() == trained.accuracy
    assert reading.features.shape == (24, 16)
    shorter = config.model_copy(update={"num_steps": 1})
    assert ensure_motion_network(shorter, training, held_out, tmp_path / "out") != path


def test_chosen_clips_are_of_all_labels_and_spread_over_all() -> None:
    # As in the motion corpus: labels take turns, every video gives two clips.
    videos = tuple(number for number in range(150) for _ in range(2))
    labels = tuple(video % 15 for video in videos)
    clips = ClipSet("nowhere", ClipGeometry(), videos, (0, 15) * 150, labels)
    for count, least, most in ((30, 2, 2), (40, 2, 3), (8, 0, 1)):
        chosen = clips.evenly_chosen(count)
        assert len(chosen) == count
        of_each = np.bincount(chosen.labels, minlength=15)
        assert (of_each.min(), of_each.max()) == (least, most)
        assert chosen.labels == tuple(video % 15 for video in chosen.videos)
    assert set(clips.evenly_chosen(30).starts) == {0, 15}
    assert clips.evenly_chosen(300) == clips
    unlabelled = dataclasses.replace(clips, labels=())
    chosen_videos = np.array(unlabelled.evenly_chosen(30).videos)
    assert np.diff(chosen_videos).max() < 3 * 150 / 30
    assert len(np.unique(chosen_videos % 15)) > 10


@pytest.fixture
def compare_values(tmp_path: Path, lexicon: Lexicon) -> dict[str, Any]:
    """Two rows, on a corpus of six rendered videos and on two other ones."""
    lexicon.save(tmp_path / "lexicon")
    model = tiny_config(geometry={"num_frames": 9, "height_px": 32, "width_px": 32})
    phase = {"num_steps": 2, "batch_size_per_worker": 2, "warmup_steps": 1}
    return {
        "rows": ["decoupled", "patch"],
        "seeds": [0],
        "lexicon": str(tmp_path / "lexicon"),
        "model": model.to_mapping(),
        "training": {"phases": {"video": phase}, "precision": "fp32"},
        "num_steps": {"motion": 3},
        "motion": {
            "directory": str(tmp_path / "motion"),
            "num_train_clips": 4,
            "num_test_clips": 2,
            "num_frames": 12,
            "size_px": 32,
            "num_processes": 1,
        },
        "natural": {
            "train": make_folder(tmp_path / "train", num_frames=60),
            "heldout": make_folder(tmp_path / "heldout", num_frames=20),
        },
        "motion_network": {"width": 8, "num_features": 2, "num_steps": 2, "batch_size": 2},
        "parameter_tolerance": 0.3,
        "output": str(tmp_path / "out"),
        "num_processes": 1,
    }


def without_clocks(result: dict[str, Any]) -> dict[str, Any]:
    assert min(result["training_cpu_s"], result["measuring_cpu_s"]) >= 0
    return {name: value for name, value in result.items() if not name.endswith("_cpu_s")}


def test_a_comparison_continues_and_ends_as_if_never_interrupted(
    compare_values: dict[str, Any],
) -> None:
    first = compare_methods(CompareConfig.from_mapping(compare_values))
    assert first.num_new == 4
    assert "probe, words %" in first.tables
    assert (first.directory / "table.md").read_text("utf-8") == first.tables
    with Image.open(first.directory / "picture.png") as picture:
        assert picture.height > 9 * 32

    # Weights are there, measures are lost, or of another kind: nothing is trained.
    lost, other = (
        next(first.directory.glob(f"runs/{name}-*")) / "result.json"
        for name in ("motion-patch", "natural-decoupled")
    )
    before = json.loads(lost.read_text("utf-8"))
    lost.unlink()
    other.write_text(
        other.read_text("utf-8").replace('"measuring_recipe": "', '"measuring_recipe": "0')
    )
    trained = {path: path.stat().st_mtime_ns for path in first.directory.glob("runs/*/trained.*")}
    second = compare_methods(CompareConfig.from_mapping(compare_values))
    assert second.num_new == 2
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert without_clocks(json.loads(lost.read_text("utf-8"))) == without_clocks(before)
    measured = before["parts"]["test"]
    assert (measured["num_clips"], measured["num_videos"]) == (4, 2)
    assert measured["frechet"] is not None
    assert 0 < measured["usage"]["spatial"] <= 1
    assert len(measured["frame_psnr_db"]) == 3
    assert 0 < before["num_live_parameters"] <= before["num_parameters"]
    assert before["num_steps"] == 3

    # Without its weights a run is trained again, to the same measures.
    (lost.parent / "trained.safetensors").unlink()
    lost.unlink()
    assert compare_methods(CompareConfig.from_mapping(compare_values)).num_new == 1
    assert without_clocks(json.loads(lost.read_text("utf-8"))) == without_clocks(before)


def test_a_row_with_settings_of_its_own_and_all_differences(
    compare_values: dict[str, Any],
) -> None:
    wide = {
        "name": "wide windows",
        "variant": "decoupled",
        "model": {"temporal_queries": {"window_queries": 2}},
    }
    values = compare_values | {"rows": [wide, "decoupled"], "motion": None}
    comparison = compare_methods(CompareConfig.from_mapping(values))
    assert comparison.num_new == 2
    everything = json.loads((comparison.directory / "results.json").read_text("utf-8"))
    means = {
        result["row"]: result["parts"]["near"]["psnr_db"]
        for result in everything["results"] + everything["anchors"]
        if "psnr_db" in result["parts"]["near"]
    }
    assert set(means) > {"wide windows", "decoupled", STILL_ROW}
    assert means["wide windows"] != means["decoupled"]
    for found in everything["differences"]:
        if found["part"] == "near" and "psnr_db" in found:
            expected = means[found["row"]] - means["decoupled"]
            assert found["psnr_db"]["mean"] == pytest.approx(expected, abs=1e-5)
    assert "| wide windows | 1 |" in comparison.tables
    loaded, variant = load_run(next(comparison.directory.glob("runs/natural-wide_windows-*")))
    assert (variant, loaded.config.temporal_queries.window_queries) == ("decoupled", 2)
    assert not loaded.training
    with pytest.raises(PipelineError, match="no run below an output"):
        load_run(comparison.directory)
    # The other row is the one that it was before.
    again = CompareConfig.from_mapping(values | {"rows": ["decoupled", "patch"]})
    assert compare_methods(again).num_new == 1


def test_rows_of_other_sizes_and_unknown_rows_are_refused(compare_values: dict[str, Any]) -> None:
    config = CompareConfig.from_mapping(compare_values | {"parameter_tolerance": 0.0})
    with pytest.raises(ConfigError, match=r"row 'patch' has \d+ parameters"):
        compare_methods(config)
    with pytest.raises(ConfigError, match="variant must be one of decoupled"):
        CompareConfig.from_mapping(compare_values | {"rows": ["tail_tokens"]})
    with pytest.raises(ConfigError, match="different names, got patch, patch"):
        CompareConfig.from_mapping(compare_values | {"rows": ["patch", "patch"]})
    misspelt = {"name": "a", "variant": "patch", "model": {"temporal_queries": {"window": 2}}}
    with pytest.raises(ConfigError, match=r"rows: a: model: temporal_queries.window: unknown key"):
        CompareConfig.from_mapping(compare_values | {"rows": [misspelt]})
    with pytest.raises(ConfigError, match="nothing to train on"):
        CompareConfig.from_mapping(compare_values | {"motion": None, "natural": None})


def test_the_shipped_settings_are_complete_and_within_the_parameter_budget() -> None:
    config = load_config(CompareConfig, REPOSITORY / "configs/compare_methods.yaml")
    corpus = load_config(MotionCorpusJobConfig, REPOSITORY / "configs/motion_corpus.yaml").corpus
    # One corpus serves both jobs.
    assert config.motion is not None
    assert config.motion.recipe == corpus.recipe
    assert config.motion.num_train_clips == corpus.num_train_clips
    check_parameters(config)
