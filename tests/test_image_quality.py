"""SSIM against scikit-image and against what must hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from sweettok.errors import ShapeError
from sweettok.image_quality import ssim


def clips(seed: int, *shape: int) -> torch.Tensor:
    """Smooth random clips of bytes: SSIM of white noise would be 0 everywhere."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(shape, generator=generator)
    smooth = torch.nn.functional.avg_pool3d(values, (1, 5, 5), stride=1, padding=(0, 2, 2))
    return (smooth * 255).byte()


def reference(original: np.ndarray, reconstruction: np.ndarray, data_range: float) -> float:
    """Mean over the planes of one clip [c, t, h, w]."""
    planes = zip(
        original.reshape(-1, *original.shape[-2:]),
        reconstruction.reshape(-1, *original.shape[-2:]),
        strict=True,
    )
    return float(
        np.mean(
            [
                structural_similarity(
                    x.astype(np.float64),
                    y.astype(np.float64),
                    data_range=data_range,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                )
                for x, y in planes
            ]
        )
    )


@pytest.mark.parametrize("size_px", [(11, 11), (16, 40), (64, 33)])
def test_ssim_agrees_with_scikit_image(size_px: tuple[int, int]) -> None:
    original = clips(0, 2, 3, 2, *size_px)
    noise = torch.randint(-20, 21, original.shape, generator=torch.Generator().manual_seed(1))
    strengths = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1, 1)
    reconstruction = (original + noise * strengths).clamp(0, 255).byte()
    found = ssim(original, reconstruction, data_range=255)
    for clip in range(2):
        expected = reference(original[clip].numpy(), reconstruction[clip].numpy(), 255)
        assert found[clip].item() == pytest.approx(expected, abs=1e-4)
    assert found[1] < found[0] < 1
    signed = ssim(original / 127.5 - 1, reconstruction / 127.5 - 1, data_range=2)
    for clip in range(2):
        expected = reference(
            original[clip].numpy() / 127.5 - 1, reconstruction[clip].numpy() / 127.5 - 1, 2
        )
        assert signed[clip].item() == pytest.approx(expected, abs=1e-4)


def test_equal_clips_have_one_and_a_negative_has_minus_one() -> None:
    rows, columns = torch.arange(24).reshape(-1, 1), torch.arange(24)
    # Every window has the mean 0, so that only the structure counts.
    checkerboard = ((rows + columns) % 2 * 2.0 - 1).expand(1, 3, 1, 24, 24)
    assert ssim(checkerboard, checkerboard, data_range=2).item() == pytest.approx(1, abs=1e-6)
    assert ssim(checkerboard, -checkerboard, data_range=2).item() == pytest.approx(-1, abs=0.01)


def test_the_gradient_leads_to_the_original() -> None:
    original = clips(3, 1, 3, 1, 16, 16) / 127.5 - 1
    reconstruction = (original * 0.5).requires_grad_()
    before = ssim(original, reconstruction, data_range=2)
    before.sum().backward()
    assert reconstruction.grad is not None
    step = 0.1 * reconstruction.grad / reconstruction.grad.norm()
    assert ssim(original, reconstruction + step, data_range=2) > before


@pytest.mark.parametrize(
    ("shape", "other", "data_range", "named"),
    [
        ((1, 3, 16, 16), (1, 3, 16, 17), 2.0, "same shape"),
        ((2, 16, 16, 3), (2, 16, 16, 3), 2.0, "must come last"),
        ((16, 16), (16, 16), 2.0, "batch"),
        ((0, 3, 16, 16), (0, 3, 16, 16), 2.0, "pixels"),
        ((1, 3, 16, 16), (1, 3, 16, 16), -1.0, "data_range"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    shape: tuple[int, ...], other: tuple[int, ...], data_range: float, named: str
) -> None:
    with pytest.raises(ShapeError, match=named):
        ssim(torch.zeros(shape), torch.zeros(other), data_range)
