"""Intervals of Fréchet distances against what samples really do, and the warnings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sweettok.bootstrap import resampled_rows
from sweettok.errors import ShapeError
from sweettok.frechet import FeatureStatistics, frechet_distance
from sweettok.frechet_interval import paired_frechet, unpaired_frechet

NUM_CLIPS, NUM_FEATURES = 120, 3
MIXING = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.2, 0.0, 1.0]])


def sample(seed: int, num_clips: int = NUM_CLIPS) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of clips and of noisy copies that are a little off."""
    rng = np.random.default_rng(seed)
    originals = rng.normal(size=(num_clips, NUM_FEATURES)) @ MIXING
    copies = 0.8 * originals + 0.4 + 0.5 * rng.normal(size=originals.shape)
    return torch.from_numpy(originals), torch.from_numpy(copies)


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return frechet_distance(FeatureStatistics.of(first), FeatureStatistics.of(second))


@pytest.mark.parametrize("is_paired", [True, False])
def test_intervals_are_as_wide_as_distances_of_new_samples_vary(is_paired: bool) -> None:
    pairs = [sample(seed) for seed in range(400)]
    if not is_paired:
        pairs = [(first, sample(1000 + seed)[1]) for seed, (first, _) in enumerate(pairs)]
    truth = np.array([distance(*pair) for pair in pairs])
    widths, num_around = [], 0
    for first, second in pairs[:40]:
        groups = list(range(len(first)))
        if is_paired:
            found = paired_frechet(first, second, groups)
        else:
            found = unpaired_frechet(first, second, groups, groups)
        assert found.low is not None
        assert found.high is not None
        assert found.warning is None
        widths.append(found.high - found.low)
        num_around += found.low <= truth.mean() <= found.high
    expected = np.subtract(*np.percentile(truth, [97.5, 2.5]))
    assert np.mean(widths) == pytest.approx(expected, rel=0.15)
    assert num_around >= 34  # 95 % of 40, less what chance takes away


def test_clips_of_one_video_are_drawn_together() -> None:
    originals, copies = (side.repeat_interleave(10, dim=0) for side in sample(0, 30))
    apart = paired_frechet(originals, copies, list(range(300)))
    videos = [f"video {number // 10}" for number in range(300)]
    together = paired_frechet(originals, copies, videos)
    assert apart.distance == together.distance
    assert apart.high - apart.low < 0.5 * (together.high - together.low)
    for rows in resampled_rows(videos, 5, seed=0):
        assert len(rows) == 300
        assert (np.bincount(rows // 10, minlength=30) % 10 == 0).all()


def test_too_few_clips_or_videos_are_said() -> None:
    originals, copies = sample(0, 5)
    few = paired_frechet(originals, copies, list("abcde"))
    assert few.warning is not None
    assert "5 clips are too few for 3 features: below 6" in few.warning
    originals, copies = sample(0, 40)
    alike = unpaired_frechet(originals, copies, ["a", "b"] * 20, list(range(40)))
    assert (alike.low, alike.high) == (None, None)
    assert alike.warning is not None
    assert "2 videos" in alike.warning
    assert paired_frechet(originals, originals, list(range(40))).distance == pytest.approx(0)


def test_sets_that_do_not_belong_together_are_refused() -> None:
    originals, copies = sample(0)
    with pytest.raises(ShapeError, match="119 groups"):
        paired_frechet(originals, copies, list(range(119)))
    with pytest.raises(ShapeError, match="copy and a group"):
        paired_frechet(originals, copies[:50], list(range(120)))
