"""Structural similarity of frames (SSIM)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from sweettok.errors import ShapeError

# Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
# structural similarity", IEEE Transactions on Image Processing 13(4), 2004, section III.
WINDOW_PX = 11
_WINDOW_SIGMA_PX = 1.5
_MEAN_STABILITY = 0.01
_CONTRAST_STABILITY = 0.03


def ssim(
    original: Shaped[Tensor, "batch ... h w"],
    reconstruction: Shaped[Tensor, "batch ... h w"],
    data_range: float,
) -> Float[Tensor, " batch"]:
    """Mean structural similarity of each clip, over its frames and colour channels.

    Every h × w plane (one channel of one frame) is compared alone, in a Gaussian window of 11 × 11
    pixels and a standard deviation of 1.5, at the positions where the window lies within the
    plane; the mean is over positions, channels and frames. Gradients flow to both sides.

    Differs: the publication compares luminance only; here it is the mean over RGB channels, as
    scikit-image computes it with `channel_axis`.

    Args:
        original: Integer or floating-point pixels; height and width are the last axes.
        reconstruction: Same shape as `original`.
        data_range: Largest possible value minus smallest: 255 for uint8, 2 for [-1, 1].

    Returns:
        float32 in [-1, 1]; 1 where both are equal.

    Raises:
        ShapeError: The shapes differ, planes are smaller than the window, or `data_range` is not
            positive.
    """
    _check(original, reconstruction, data_range)
    # One clip at a time: the windowed moments take several times the memory of the pixels.
    return torch.stack(
        [
            _mean_similarity(_planes(left, data_range), _planes(right, data_range))
            for left, right in zip(original, reconstruction, strict=True)
        ]
    )


def _mean_similarity(
    x: Float[Tensor, "planes 1 h w"], y: Float[Tensor, "planes 1 h w"]
) -> Float[Tensor, ""]:
    """Source: equation 13, of planes whose range has the length 1."""
    mean_x, mean_y = _windowed_mean(x), _windowed_mean(y)
    variance_x = _windowed_mean(x * x) - mean_x * mean_x
    variance_y = _windowed_mean(y * y) - mean_y * mean_y
    covariance = _windowed_mean(x * y) - mean_x * mean_y
    c1, c2 = _MEAN_STABILITY**2, _CONTRAST_STABILITY**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean()


def _windowed_mean(planes: Float[Tensor, "planes 1 h w"]) -> Float[Tensor, "planes 1 h2 w2"]:
    offsets = torch.arange(WINDOW_PX, device=planes.device) - WINDOW_PX // 2
    window = torch.exp(-offsets.float().square() / (2 * _WINDOW_SIGMA_PX**2))
    window = window / window.sum()
    rows = F.conv2d(planes, rearrange(window, "k -> 1 1 1 k"))
    return F.conv2d(rows, rearrange(window, "k -> 1 1 k 1"))


def _planes(clip: Shaped[Tensor, "... h w"], data_range: float) -> Float[Tensor, "planes 1 h w"]:
    return rearrange(clip.to(torch.float32) / data_range, "... h w -> (...) 1 h w")


def _check(original: Tensor, reconstruction: Tensor, data_range: float) -> None:
    shapes = f"original {list(original.shape)}, reconstruction {list(reconstruction.shape)}"
    if original.shape != reconstruction.shape:
        raise ShapeError(f"both clips must have the same shape, found {shapes}")
    if original.ndim < 3 or not original.numel():
        raise ShapeError(f"expected [batch, ..., height, width] with pixels, found {shapes}")
    if min(original.shape[-2:]) < WINDOW_PX:
        raise ShapeError(
            f"SSIM's window of {WINDOW_PX}×{WINDOW_PX} px does not fit the last two axes of "
            f"{shapes}; height and width must come last"
        )
    if not 0 < data_range < math.inf:
        raise ShapeError(f"data_range must be above 0, found {data_range}")
