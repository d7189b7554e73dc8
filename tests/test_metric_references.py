"""Every metric beside independent values: torchmetrics, scikit-image, SciPy.

`pytest -s tests/test_metric_references.py` prints both.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.functional.image.lpips import _LPIPS
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from sweettok.bootstrap import mean_interval
from sweettok.diversity import inception_score
from sweettok.frechet import FeatureStatistics, frechet_distance
from sweettok.image_quality import WINDOW_PX, ssim
from sweettok.losses.perceptual import PerceptualDistance
from sweettok.losses.vgg import TORCHVISION_MEAN, TORCHVISION_STD, VggFeatures, vgg16_tensor_shapes
from sweettok.metrics import codebook_usage, entropy_bits, psnr_db

BYTES = 255.0


class AsItIs(nn.Module):
    """In the place of an image network: the "images" are the features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def beside(name: str, independent: float, ours: float, tolerance: float) -> None:
    """Prints both values, which have to agree."""
    print(f"| {name} | {independent:.8g} | {ours:.8g} | {abs(independent - ours):.1e} |")
    assert ours == pytest.approx(independent, abs=tolerance)


@pytest.fixture(scope="module")
def clip_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth bytes [1, 3, 2, 40, 56] and a noisy copy."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1, 3, 2, 40, 56, generator=generator)
    smooth = nn.functional.avg_pool3d(values, (1, 5, 5), stride=1, padding=(0, 2, 2))
    original = (smooth * 255).byte()
    noise = torch.randint(-25, 26, original.shape, generator=generator)
    return original, (original + noise).clamp(0, 255).byte()


def test_psnr(clip_pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    original, copy = clip_pair
    expected = peak_signal_noise_ratio(original.numpy(), copy.numpy(), data_range=255)
    beside("PSNR dB, scikit-image", expected, psnr_db(original, copy, BYTES).item(), 1e-4)


def test_ssim(clip_pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    original, copy = clip_pair
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    planes = zip(original.flatten(0, 2).numpy(), copy.flatten(0, 2).numpy(), strict=True)
    expected = np.mean([structural_similarity(a, b, data_range=255, **options) for a, b in planes])
    ours = ssim(original, copy, BYTES).item()
    beside("SSIM, scikit-image", float(expected), ours, 1e-5)
    # torchmetrics also counts windows that reach beyond the frame, filled by reflection; of the
    # others it says the same.
    frames = [clip.float().flatten(0, 2).unsqueeze(1) for clip in (copy, original)]
    _, everywhere = structural_similarity_index_measure(
        *frames, data_range=BYTES, sigma=1.5, return_full_image=True
    )
    edge = WINDOW_PX // 2
    inner = everywhere[..., edge:-edge, edge:-edge].mean().item()
    beside("SSIM, torchmetrics within frames", inner, ours, 1e-5)


def test_lpips_with_its_published_heads() -> None:
    torch.manual_seed(0)
    reference = _LPIPS(pretrained=True, net="vgg", pnet_rand=True).double()
    names = [name for name in vgg16_tensor_shapes() if name.startswith("conv")]
    convolutions = [part for part in reference.net.modules() if isinstance(part, nn.Conv2d)]
    values = [value for part in convolutions for value in (part.weight, part.bias)]
    tensors = {name: value.detach().float() for name, value in zip(names, values, strict=True)} | {
        "input_mean": torch.tensor(TORCHVISION_MEAN),
        "input_std": torch.tensor(TORCHVISION_STD),
    }
    heads = [layer.model[-1].weight.detach().float().flatten() for layer in reference.lins]
    ours = PerceptualDistance(VggFeatures(tensors, origin="random"), heads=heads)
    generator = torch.Generator().manual_seed(1)
    original = torch.rand(2, 3, 1, 48, 64, generator=generator) * 2 - 1
    copy = (original + 0.3 * torch.randn(original.shape, generator=generator)).clamp(-1, 1)
    with torch.no_grad():
        expected = reference(original[:, :, 0].double(), copy[:, :, 0].double()).flatten()
        found = ours(original, copy)
    for number in range(2):
        beside("LPIPS, torchmetrics", expected[number].item(), found[number].item(), 1e-6)
    assert heads[0].min() >= 0
    assert expected[0] > 1e-3


def test_frechet_distance() -> None:
    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn(2, 12, 12, generator=generator).double()
    real = torch.randn(300, 12, generator=generator).double() @ mixing[0]
    fake = torch.randn(200, 12, generator=generator).double() @ mixing[1] + 0.5
    ours = frechet_distance(FeatureStatistics.of(real), FeatureStatistics.of(fake))
    reference = FrechetInceptionDistance(feature=AsItIs(12)).set_dtype(torch.float64)
    reference.update(real, real=True)
    reference.update(fake, real=False)
    beside("Fréchet distance, torchmetrics", reference.compute().item(), ours, 1e-6)
    sides = [np.cov(side.numpy(), rowvar=False) for side in (real, fake)]
    root = scipy.linalg.sqrtm(sides[0] @ sides[1]).real
    shift = (real.mean(0) - fake.mean(0)).square().sum().item()
    expected = shift + sides[0].trace() + sides[1].trace() - 2 * root.trace()
    beside("Fréchet distance, SciPy", expected, ours, 1e-8)


def test_inception_score() -> None:
    logits = 2 * torch.randn(240, 15, generator=torch.Generator().manual_seed(3))
    reference = InceptionScore(feature=AsItIs(15), splits=1)
    reference.update(logits)
    ours = inception_score(logits.softmax(dim=1)).mean
    beside("inception score, torchmetrics", reference.compute()[0].item(), ours, 1e-5)
    probabilities = logits.double().softmax(dim=1).numpy()
    divergences = [scipy.stats.entropy(row, probabilities.mean(axis=0)) for row in probabilities]
    beside("inception score, SciPy", float(np.exp(np.mean(divergences))), ours, 1e-6)


def test_entropy_and_perplexity() -> None:
    ids = torch.randint(0, 1000, (5000,), generator=torch.Generator().manual_seed(4)) ** 2 // 1000
    statistics = codebook_usage(ids, 1024)
    _, counts = np.unique(ids.numpy(), return_counts=True)
    expected = float(scipy.stats.entropy(counts, base=2))
    beside("entropy in bits, SciPy", expected, entropy_bits(statistics.counts), 1e-9)
    beside("perplexity, SciPy", 2**expected, statistics.perplexity, 1e-6)
    beside("used share, NumPy", len(counts) / 1024, statistics.usage, 1e-12)


def test_interval_of_a_mean() -> None:
    values = np.random.default_rng(5).exponential(size=60)
    found = mean_interval(values, list(range(60)))
    assert found.low is not None
    assert found.high is not None
    reference = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(6)
    ).confidence_interval
    beside("lower end of a mean's interval, SciPy", reference.low, found.low, 0.02)
    beside("upper end of a mean's interval, SciPy", reference.high, found.high, 0.02)
