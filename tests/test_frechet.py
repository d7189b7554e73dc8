"""Streaming feature statistics and the Fréchet distance: closed forms and SciPy's square root."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweettok.errors import ShapeError
from sweettok.frechet import FeatureStatistics, frechet_distance


def statistics(features: np.ndarray) -> FeatureStatistics:
    gathered = FeatureStatistics(features.shape[1])
    gathered.update(torch.from_numpy(features))
    return gathered


def draw(seed: int, num_vectors: int, num_features: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(num_features, num_features))
    return rng.normal(size=(num_vectors, num_features)) @ mixing + rng.normal(size=num_features)


@given(seed=st.integers(0, 100), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_batches_add_up_to_the_whole(seed: int, cuts: list[int]) -> None:
    features = draw(seed, 30, 4) + 1e4  # far from 0: sums of squares would cancel
    whole = FeatureStatistics(4)
    for batch in np.split(features, sorted(cuts)):
        whole.update(torch.from_numpy(batch))
    assert whole.num_vectors == 30
    np.testing.assert_allclose(whole.mean.numpy(), features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        whole.covariance.numpy(), np.cov(features, rowvar=False), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(("num_vectors", "num_features"), [(200, 6), (50, 1), (64, 40)])
def test_distance_is_that_of_scipys_matrix_root(num_vectors: int, num_features: int) -> None:
    a, b = (draw(seed, num_vectors, num_features) for seed in (0, 1))
    covariances = [np.atleast_2d(np.cov(side, rowvar=False)) for side in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(c.trace() for c in covariances)
    expected -= 2 * root.trace()
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("num_vectors", [200, 5])
def test_shifted_and_stretched_gaussians_have_their_closed_form(num_vectors: int) -> None:
    features = draw(2, num_vectors, 8)  # 5 vectors of 8 features: covariance without full rank
    centred = features - features.mean(axis=0)
    shift = np.arange(8.0)
    a = statistics(centred)
    assert frechet_distance(a, statistics(centred + shift)) == pytest.approx((shift**2).sum())
    stretched = statistics(3 * centred + shift)
    expected = (shift**2).sum() + (3 - 1) ** 2 * float(a.covariance.trace())
    assert frechet_distance(a, stretched) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(stretched, a) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)


def test_the_covariance_matters_beyond_its_trace() -> None:
    rng = np.random.default_rng(0)
    white = rng.normal(size=(5000, 2))
    first, second = white * [1.0, 3.0], white * [3.0, 1.0]
    # Independent axes: the sum over axes of the squared difference of deviations.
    assert frechet_distance(statistics(first), statistics(second)) == pytest.approx(8.0, rel=0.05)


def test_what_cannot_be_gathered_or_compared_is_refused() -> None:
    gathered = FeatureStatistics(3)
    gathered.update(torch.zeros(0, 3))
    with pytest.raises(ShapeError, match="2 vectors or more, found 0"):
        frechet_distance(gathered, gathered)
    with pytest.raises(ShapeError, match=r"\[n, 3\].*\[2, 4\]"):
        gathered.update(torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="not finite"):
        gathered.update(torch.full((2, 3), float("inf")))
    assert gathered.num_vectors == 0
    with pytest.raises(ShapeError, match="length 3 and 2"):
        frechet_distance(gathered, FeatureStatistics(2))
    with pytest.raises(ShapeError, match="at least 1"):
        FeatureStatistics(0)


def test_integers_of_half_precision_features_survive() -> None:
    gathered = FeatureStatistics(1)
    gathered.update(torch.tensor([[256.0], [258.0]], dtype=torch.bfloat16))
    gathered.update(torch.tensor([[260.0]], dtype=torch.bfloat16))
    assert gathered.mean.item() == 258.0
    assert gathered.covariance.item() == 4.0
