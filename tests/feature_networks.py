"""Random weights of the perceptual network, and the same network in slow, obvious NumPy."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import torch

from sweettok.losses.vgg import BLOCK_DEPTHS, vgg16_tensor_shapes

Array = np.ndarray


@cache
def random_vgg16_tensors() -> dict[str, torch.Tensor]:
    """He-initialised weights, so that all five scales carry a signal."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in vgg16_tensor_shapes().items():
        if name.endswith(".weight"):
            scale = (2 / (shape[1] * 9)) ** 0.5
            tensors[name] = torch.randn(shape, generator=generator) * scale
        elif name.endswith(".bias"):
            tensors[name] = torch.randn(shape, generator=generator) * 0.1
    tensors["input_mean"] = torch.tensor([0.4, 0.5, 0.6])
    tensors["input_std"] = torch.tensor([0.2, 0.3, 0.25])
    return tensors


def random_heads() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(width, generator=generator) for width in (64, 128, 256, 512, 512)]


def numpy_features(tensors: dict[str, torch.Tensor], frame: Array) -> list[Array]:
    """Features [c, h, w] of one frame [3, h, w] in [-1, 1], after each block's last ReLU."""
    weights = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    mean, std = weights["input_mean"][:, None, None], weights["input_std"][:, None, None]
    features = ((frame.astype(np.float64) + 1) / 2 - mean) / std
    layers = []
    for block, depth in enumerate(BLOCK_DEPTHS, 1):
        if block > 1:
            features = _halve(features)
        for layer in range(1, depth + 1):
            name = f"conv{block}_{layer}"
            features = _convolve(features, weights[f"{name}.weight"], weights[f"{name}.bias"])
            features = np.maximum(features, 0)
        layers.append(features)
    return layers


def numpy_distance(
    tensors: dict[str, torch.Tensor], left: Array, right: Array, heads: list[Array] | None
) -> float:
    """LPIPS, equation 1, with `heads`; the plain mean over layers without."""
    distances = []
    pairs = zip(numpy_features(tensors, left), numpy_features(tensors, right), strict=True)
    for index, (a, b) in enumerate(pairs):
        a, b = a / np.linalg.norm(a, axis=0), b / np.linalg.norm(b, axis=0)
        channels = heads[index] if heads else np.ones(len(a))
        per_position = np.einsum("c,chw->hw", channels, (a - b) ** 2)
        distances.append(per_position.mean())
    return float(np.sum(distances) if heads else np.mean(distances))


def _convolve(features: Array, kernel: Array, bias: Array) -> Array:
    height, width = features.shape[1:]
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    total = np.tile(bias[:, None, None], (1, height, width))
    for row in range(3):
        for column in range(3):
            window = padded[:, row : row + height, column : column + width]
            total += np.einsum("oi,ihw->ohw", kernel[:, :, row, column], window, optimize=True)
    return total


def _halve(features: Array) -> Array:
    rows = [range(*edge) for edge in pairwise(range(0, features.shape[1] // 2 * 2 + 1, 2))]
    columns = [range(*edge) for edge in pairwise(range(0, features.shape[2] // 2 * 2 + 1, 2))]
    return np.array(
        [
            [[plane[np.ix_(row, column)].max() for column in columns] for row in rows]
            for plane in features
        ]
    )
