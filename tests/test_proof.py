"""The proof of the method: what its measures mean; its runs can be stopped and repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.motion_corpus.sheet import MotionCorpusJobConfig
from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.comparison import CompareConfig, check_parameters, compare_methods
from pipeline.proof.corpora import NaturalVideoConfig, prepare_natural
from pipeline.proof.motion_network import (
    MotionNetworkConfig,
    MotionReading,
    load_motion_network,
)
from pipeline.proof.motion_training import ensure_motion_network
from pipeline.proof.one_thread import one_thread
from pipeline.proof.probe import PENALTIES, probe_tokens, ridge_scores
from pipeline.proof.tables import Yardstick, markdown_tables
from pipeline.records import WorkUnit
from pipeline.training.data_config import DataConfig
from pipeline.training.frame_cache_writer import FrameCacheWriter
from pipeline.training.frame_recipe import FrameRecipe
from sweettok import ClipGeometry, Lexicon, pixels_to_video
from sweettok.errors import ConfigError
from sweettok.frechet import frechet_distance
from sweettok.strict_config import load_config
from sweettok.tokens import Tokens
from tests.job_runs import REPOSITORY
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


def test_ridge_scores_are_those_of_the_penalty_with_the_least_refitted_error() -> None:
    generator = np.random.default_rng(0)
    train, test = generator.normal(size=(14, 5)), generator.normal(size=(6, 5))
    labels = np.arange(14) % 3
    train[:, 0] += labels

    mean, spread = train.mean(axis=0), train.std(axis=0, ddof=1) * 5**0.5
    x, x_test = (train - mean) / spread, (test - mean) / spread
    y = np.eye(3)[labels]
    offset = y.mean(axis=0)

    def solve(rows: np.ndarray, penalty: float) -> np.ndarray:
        return np.linalg.solve(
            x[rows].T @ x[rows] + penalty * np.eye(5), x[rows].T @ (y[rows] - offset)
        )

    def held_out_error(penalty: float) -> float:
        errors = []
        for left_out in range(14):
            rows = np.arange(14) != left_out
            errors.append(y[left_out] - offset - x[left_out] @ solve(rows, penalty))
        return float(np.square(errors).mean())

    best = min(PENALTIES, key=held_out_error)
    expected = x_test @ solve(np.arange(14), best) + offset
    found = ridge_scores(*map(torch.from_numpy, (train, labels, test)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


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


def moving_squares(directory: Path, geometry: ClipGeometry, seed: int) -> ClipSet:
    """Squares that move sideways (0) or down (1): single frames do not tell which."""
    generator = np.random.default_rng(seed)
    recipe = FrameRecipe.for_evaluation(DataConfig(source={"uris": ["none"]}), geometry)
    directory.mkdir()
    writer = FrameCacheWriter(directory, recipe)
    labels = []
    for number in range(24):
        frames = np.full((12, 32, 32, 3), generator.integers(0, 120), np.uint8)
        labels.append(number % 2)
        for index in range(12):
            left, top = 2 * index, 4 + number % 16
            if labels[-1]:
                left, top = top, left
            frames[index, top : top + 8, left : left + 8] = 200
        writer.add_video(WorkUnit(f"{number:02d}", f"{number:02d}", "", 0), frames, 12.0)
    writer.close()
    return ClipSet(str(directory), geometry, tuple(range(24)), (0,) * 24, tuple(labels))


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
    assert frechet_distance(reading.statistics, reading.statistics) < 1e-6
    shorter = config.model_copy(update={"num_steps": 1})
    assert ensure_motion_network(shorter, training, held_out, tmp_path / "out") != path


def test_clips_are_chosen_evenly_and_keep_their_labels() -> None:
    clips = ClipSet("nowhere", ClipGeometry(), tuple(range(10)), (0,) * 10, tuple(range(10)))
    chosen = clips.evenly_chosen(4)
    assert chosen.videos == chosen.labels == (1, 3, 6, 8)
    assert clips.evenly_chosen(10) is clips


def result_of(row: str, seed: int, **changes: Any) -> dict[str, Any]:
    part = {
        "num_clips": 33,
        "psnr_db": 20.0 + seed,
        "ssim": 0.5,
        "perceptual": None,
        "frechet": None,
        "recognised": None,
        "usage": {"spatial": 0.25, "temporal": 0.75},
        "perplexity": {"spatial": 100.0, "temporal": 300.0},
    }
    return {
        "corpus": "natural",
        "row": row,
        "seed": seed,
        "num_parameters": 1234567,
        "bits_per_clip": 1280.0,
        "probe": None,
        "parts": {"near": part | changes},
    }


def test_the_table_shows_means_spreads_and_what_is_missing() -> None:
    results = [result_of("decoupled", seed) for seed in (0, 1, 2)]
    results.append(result_of("patch", 0, usage={"union": 0.5}, perplexity={"union": 40.0}))
    results[0]["parts"]["near"]["perceptual"] = 0.125
    table = markdown_tables(results, ("patch", "flattened", "decoupled"), Yardstick(0.91, 64))
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert "33 clips" in table
    assert "91.0 %" in table
    assert "Fréchet" not in lines[0]
    assert [line.split(" | ")[1:] for line in lines[1:]] == [
        ["1", "1,234,567", "1,280", "20.00", "0.500", "–", "50", "40 |"],
        [
            *("3", "1,234,567", "1,280", "21.00 ± 1.00", "0.500 ± 0.000", "0.125"),
            *("25 / 75", "100 / 300 |"),
        ],
    ]


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


def test_a_comparison_continues_and_ends_as_if_never_interrupted(
    compare_values: dict[str, Any], tmp_path: Path
) -> None:
    first = compare_methods(CompareConfig.from_mapping(compare_values))
    assert first.num_new == 4
    assert first.tables.count("| plain patch quantisation") == 3
    assert "probe, words %" in first.tables
    assert (first.directory / "table.md").read_text("utf-8") == first.tables
    with Image.open(first.directory / "picture.png") as picture:
        assert picture.height > 9 * 32

    lost = next(first.directory.glob("runs/motion-patch-*")) / "result.json"
    before = json.loads(lost.read_text("utf-8"))
    lost.unlink()
    second = compare_methods(CompareConfig.from_mapping(compare_values))
    assert second.num_new == 1
    assert second.tables == first.tables
    again = json.loads(lost.read_text("utf-8"))
    for clock in ("training_cpu_s", "measuring_cpu_s"):
        assert before.pop(clock) >= 0
        assert again.pop(clock) >= 0
    assert again == before
    measured = before["parts"]["test"]
    assert measured["num_clips"] == 4
    assert measured["frechet"] is not None
    assert 0 < measured["usage"]["spatial"] <= 1
    assert before["num_steps"] == 3
    natural = next(first.directory.glob("runs/natural-patch-*")) / "result.json"
    assert json.loads(natural.read_text("utf-8"))["num_steps"] == 2

    longer = compare_values | {"rows": ["decoupled"], "motion": None, "seeds": [0, 1]}
    third = compare_methods(CompareConfig.from_mapping(longer))
    assert third.num_new == 1


def test_rows_of_other_sizes_and_unknown_rows_are_refused(compare_values: dict[str, Any]) -> None:
    config = CompareConfig.from_mapping(compare_values | {"parameter_tolerance": 0.0})
    with pytest.raises(ConfigError, match=r"row 'patch' has \d+ parameters"):
        compare_methods(config)
    with pytest.raises(ConfigError, match="rows must be some of decoupled"):
        CompareConfig.from_mapping(compare_values | {"rows": ["tail_tokens"]})
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
