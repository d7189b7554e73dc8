"""Fréchet distance between two sets of features, each taken for a Gaussian.

The statistics are gathered batch by batch; the number is only as meaningful as the network whose
features they are, so always name it beside the number.

Source: Dowson and Landau, "The Fréchet distance between multivariate normal distributions", Journal
of Multivariate Analysis 12(3), 1982; arXiv:1706.08500 (FID) and arXiv:1812.01717 (FVD).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sweettok.errors import ShapeError

VECTORS_PER_FEATURE = 2
"""A covariance of d features needs more vectors than features by this margin to mean anything."""


class FeatureStatistics:
    """Number, mean and covariance of feature vectors, gathered in double precision on CPU.

    Batches are combined by means and sums of squared deviations, which keeps
    precision where sums of squares would cancel.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances", 1979, equation 2.1.

    Args:
        num_features: Length d of the vectors.
    """

    def __init__(self, num_features: int) -> None:
        if num_features < 1:
            raise ShapeError(f"num_features must be at least 1, found {num_features}")
        self._num_vectors = 0
        self._mean = torch.zeros(num_features, dtype=torch.float64)
        self._scatter = torch.zeros(num_features, num_features, dtype=torch.float64)

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> FeatureStatistics:
        """The statistics of vectors that are all at hand.

        Raises:
            ShapeError: A value is not finite.
        """
        gathered = cls(features.shape[1])
        gathered.update(features)
        return gathered

    def __repr__(self) -> str:
        return (
            f"FeatureStatistics(num_vectors={self.num_vectors}, num_features={self.num_features})"
        )

    @property
    def num_vectors(self) -> int:
        """How many vectors were seen."""
        return self._num_vectors

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return len(self._mean)

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """Mean vector, float64; zeros before the first vector."""
        return self._mean.clone()

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Sample covariance (divided by n − 1), float64.

        Raises:
            ShapeError: Fewer than two vectors were seen.
        """
        if self._num_vectors < 2:
            raise ShapeError(f"a covariance needs 2 vectors or more, found {self._num_vectors}")
        return self._scatter / (self._num_vectors - 1)

    @torch.no_grad()
    def update(self, features: Float[Tensor, "n d"]) -> None:
        """Adds a batch of vectors, of any floating-point type and device; may be empty.

        Raises:
            ShapeError: The vectors have another length, or a value is not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise ShapeError(
                f"expected features [n, {self.num_features}], found {list(features.shape)}"
            )
        if not len(features):
            return
        values = features.detach().to("cpu", torch.float64)
        if not bool(values.isfinite().all()):
            raise ShapeError("features hold values that are not finite; is the input in range?")
        mean = values.mean(dim=0)
        deviations = values - mean
        self._combine(len(values), mean, deviations.T @ deviations)

    def _combine(self, num_vectors: int, mean: Tensor, scatter: Tensor) -> None:
        total = self._num_vectors + num_vectors
        shift = mean - self._mean
        self._scatter += scatter
        self._scatter += torch.outer(shift, shift) * (self._num_vectors * num_vectors / total)
        self._mean += shift * (num_vectors / total)
        self._num_vectors = total


def has_enough_vectors(num_vectors: int, num_features: int) -> bool:
    """Whether so many vectors give a covariance that means anything."""
    return num_vectors >= VECTORS_PER_FEATURE * num_features


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Squared Fréchet distance of the two Gaussians: what FID and FVD report.

    |mean a − mean b|² + tr(A) + tr(B) − 2 tr((A B)^½) for covariances A and B. The last trace is
    the sum of the singular values of A^½ B^½; both roots come from symmetric eigendecompositions,
    so covariances without full rank need no added diagonal.

    Fewer vectors than features bias the distance upwards: compare numbers of equal counts only.

    Returns:
        At least 0, in the square of the features' unit.

    Raises:
        ShapeError: The features have different lengths, or either side has fewer than two.
    """
    if a.num_features != b.num_features:
        raise ShapeError(
            f"both sides must come from one network, found features of length {a.num_features} "
            f"and {b.num_features}"
        )
    root_a, root_b = _square_root(a.covariance), _square_root(b.covariance)
    trace = float(a.covariance.trace() + b.covariance.trace())
    shared = float(torch.linalg.svdvals(root_a.T @ root_b).sum())
    return max(0.0, float((a.mean - b.mean).square().sum()) + trace - 2 * shared)


def _square_root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """A matrix R with R Rᵀ = covariance; its product with another's has the wanted trace."""
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding makes eigenvalues that are 0 slightly negative.
    return vectors * values.clamp_min(0).sqrt()
