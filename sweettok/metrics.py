"""How good is a reconstruction, how well is a codebook used: the numbers on every log line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sweettok.errors import ShapeError


@dataclass(frozen=True, slots=True, eq=False)
class CodebookStatistics:
    """How often each code of a codebook was chosen, and what follows from it.

    Attributes:
        counts: int64 tensor [num_codes] on CPU, times that each code was chosen.
        usage: Share of the codes chosen at least once, in [0, 1].
        perplexity: 2 to the entropy of the choices: the number of codes that, used evenly,
            would carry as much. In [1, num_codes]; 0 if nothing was counted.
        num_dead: Number of codes never chosen.
    """

    counts: Int[Tensor, " num_codes"]
    usage: float
    perplexity: float
    num_dead: int

    @classmethod
    def from_counts(cls, counts: Int[Tensor, " num_codes"]) -> CodebookStatistics:
        """The statistics of counts that were summed up elsewhere, over batches or workers.

        Raises:
            ShapeError: `counts` is not one non-empty row of integers of at least 0.
        """
        _check_counts(counts)
        counts = counts.detach().to("cpu", torch.int64)
        num_dead = int((counts == 0).sum())
        num_codes = len(counts)
        return cls(
            counts=counts,
            usage=(num_codes - num_dead) / num_codes,
            perplexity=2.0 ** entropy_bits(counts) if num_dead < num_codes else 0.0,
            num_dead=num_dead,
        )

    def __repr__(self) -> str:
        return (
            f"CodebookStatistics(num_codes={len(self.counts)}, usage={self.usage:.4f}, "
            f"perplexity={self.perplexity:.1f}, num_dead={self.num_dead})"
        )


def codebook_usage(ids: Int[Tensor, "*any"], num_codes: int) -> CodebookStatistics:
    """Counts how often each code was chosen.

    Args:
        ids: Code ids of any shape, in [0, num_codes); may be empty.
        num_codes: Size of the codebook, at least 1.

    Raises:
        ShapeError: `ids` is not of an integer type, or an id lies outside the codebook.
    """
    if num_codes < 1:
        raise ShapeError(f"num_codes must be at least 1, found {num_codes}")
    _check_integers(ids, "ids")
    flat = ids.detach().reshape(-1).to(torch.int64)
    if flat.numel():
        lowest, highest = int(flat.min()), int(flat.max())
        if lowest < 0 or highest >= num_codes:
            raise ShapeError(
                f"ids must lie in [0, {num_codes}), found {lowest} to {highest}; "
                "are they ids of another codebook?"
            )
    return CodebookStatistics.from_counts(torch.bincount(flat, minlength=num_codes))


def entropy_bits(counts: Int[Tensor, " num_codes"]) -> float:
    """Shannon entropy of the distribution that `counts` describe, in bits; 0.0 for no counts.

    Raises:
        ShapeError: `counts` is not one non-empty row of integers of at least 0.
    """
    _check_counts(counts)
    # Double precision is for CPU: some accelerators have none.
    chosen = counts[counts > 0].detach().to("cpu", torch.float64)
    if not chosen.numel():
        return 0.0
    total = chosen.sum()
    # log2(total) − Σ c·log2(c) / total is never negative by more than rounding.
    return max(0.0, float(total.log2() - (chosen * chosen.log2()).sum() / total))


def psnr_db(
    original: Shaped[Tensor, "batch ..."],
    reconstruction: Shaped[Tensor, "batch ..."],
    data_range: float,
) -> Float[Tensor, " batch"]:
    """Peak signal-to-noise ratio of each clip, over all its frames, pixels and channels.

    Args:
        original: Integer or floating-point pixels.
        reconstruction: Same shape as `original`.
        data_range: Largest possible value minus smallest: 255 for uint8, 2 for [-1, 1].

    Returns:
        float32 decibels; infinity where both are equal. A mean over clips is the mean of these.

    Raises:
        ShapeError: The shapes differ, there is nothing to compare, or `data_range` is not positive.
    """
    if original.shape != reconstruction.shape:
        raise ShapeError(
            f"original {list(original.shape)} and reconstruction "
            f"{list(reconstruction.shape)} must have the same shape"
        )
    if original.ndim < 2 or original.numel() == 0:
        raise ShapeError(f"expected [batch, ...] with pixels, found {list(original.shape)}")
    if not 0 < data_range < math.inf:
        raise ShapeError(f"data_range must be above 0, found {data_range}")
    difference = original.to(torch.float32) - reconstruction.to(torch.float32)
    mean_squared_error = rearrange(difference, "batch ... -> batch (...)").square().mean(dim=1)
    return 10.0 * torch.log10(data_range**2 / mean_squared_error)


def _check_integers(values: Tensor, name: str) -> None:
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ShapeError(f"{name} must be of an integer type, found {values.dtype}")


def _check_counts(counts: Tensor) -> None:
    _check_integers(counts, "counts")
    if counts.ndim != 1 or not counts.numel():
        raise ShapeError(f"counts must be [num_codes] and not empty, found {list(counts.shape)}")
    if int(counts.min()) < 0:
        raise ShapeError(f"counts must be at least 0, found {int(counts.min())}")
