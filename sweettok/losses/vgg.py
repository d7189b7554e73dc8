"""The convolutions of VGG-16, frozen, and the files that hold their weights.

A weight file is safetensors with `conv1_1.weight`, `conv1_1.bias`, … `conv5_3.bias` for RGB input,
`input_mean` and `input_std` [3] of pixels in [0, 1] that the network was trained with, and where it
all comes from in its metadata. A file of LPIPS heads holds `head_0` … `head_4`.

Source: arXiv:1409.1556, table 1, column D.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sweettok.errors import CheckpointError

BLOCK_CHANNELS = (64, 128, 256, 512, 512)
BLOCK_DEPTHS = (2, 2, 3, 3, 3)
SMALLEST_FRAME_PX = 2 ** (len(BLOCK_CHANNELS) - 1)

# Of RGB pixels in [0, 1]. Source: torchvision's documentation of `VGG16_Weights.IMAGENET1K_V1`.
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)

_REMEDY = "`python jobs/fetch_feature_weights.py` makes such files"


def vgg16_tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a weight file."""
    shapes: dict[str, tuple[int, ...]] = {"input_mean": (3,), "input_std": (3,)}
    channels_in = 3
    for block, (channels, depth) in enumerate(zip(BLOCK_CHANNELS, BLOCK_DEPTHS, strict=True), 1):
        for layer in range(1, depth + 1):
            shapes[f"conv{block}_{layer}.weight"] = (channels, channels_in, 3, 3)
            shapes[f"conv{block}_{layer}.bias"] = (channels,)
            channels_in = channels
    return shapes


def lpips_head_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a file of LPIPS heads."""
    return {f"head_{index}": (channels,) for index, channels in enumerate(BLOCK_CHANNELS)}


class VggFeatures(nn.Module):
    """The features after the last activation of each of the five blocks.

    All tensors are buffers outside the state dict: there is nothing to train or to save.

    Args:
        tensors: As in a weight file, float32.
        origin: Where the weights come from, for reports.

    Raises:
        CheckpointError: A tensor is missing, unknown or of another shape.
    """

    num_layers = len(BLOCK_CHANNELS)

    def __init__(self, tensors: Mapping[str, Tensor], *, origin: str) -> None:
        super().__init__()
        check_tensors(tensors, vgg16_tensor_shapes(), origin)
        self.origin = origin
        for name, tensor in tensors.items():
            kept = tensor.detach().to(torch.float32)
            self.register_buffer(name.replace(".", "_"), kept, persistent=False)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a weight file.

        Raises:
            CheckpointError: It is missing, no safetensors file, incomplete or of another network.
        """
        tensors, metadata = _read(Path(path))
        check_tensors(tensors, vgg16_tensor_shapes(), str(path))
        return cls(tensors, origin=metadata.get("origin", str(path)))

    @property
    def reads_torchvision_input(self) -> bool:
        """Whether it was trained on pixels normalised as torchvision's networks expect them."""
        return torch.allclose(
            self.get_buffer("input_mean").cpu(), torch.tensor(TORCHVISION_MEAN)
        ) and torch.allclose(self.get_buffer("input_std").cpu(), torch.tensor(TORCHVISION_STD))

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h2 w2"]]:
        """Features of RGB frames in [-1, 1], of at least 16×16 px; five scales, largest first."""
        mean = rearrange(self.get_buffer("input_mean"), "c -> c 1 1")
        std = rearrange(self.get_buffer("input_std"), "c -> c 1 1")
        features = ((frames.float() + 1) / 2 - mean) / std
        layers = []
        for block, depth in enumerate(BLOCK_DEPTHS, 1):
            if block > 1:
                features = F.max_pool2d(features, kernel_size=2)
            for layer in range(1, depth + 1):
                weight = self.get_buffer(f"conv{block}_{layer}_weight")
                bias = self.get_buffer(f"conv{block}_{layer}_bias")
                features = F.relu(F.conv2d(features, weight, bias, padding=1))
            layers.append(features)
        return layers


def load_lpips_heads(path: str | Path) -> list[Float[Tensor, " channels"]]:
    """Reads a file of LPIPS heads: one weight per channel and layer, at least 0.

    Raises:
        CheckpointError: The file is missing, no safetensors file, incomplete, or has a weight
            below 0.
    """
    tensors, _ = _read(Path(path))
    check_tensors(tensors, lpips_head_shapes(), str(path))
    if lowest := min(0.0, *(float(head.min()) for head in tensors.values())):
        raise CheckpointError(f"{path}: heads must be at least 0, found {lowest}; {_REMEDY}")
    return [tensors[name].to(torch.float32) for name in lpips_head_shapes()]


def check_tensors(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], origin: str
) -> None:
    """Refuses any set of tensors but the one that `shapes` describe.

    Raises:
        CheckpointError: A tensor is missing, unknown, of another shape or not finite.
    """
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise CheckpointError(f"{origin}: misses {', '.join(missing[:3])} …; {_REMEDY}")
    if unknown := sorted(tensors.keys() - shapes.keys()):
        raise CheckpointError(f"{origin}: has unknown {', '.join(unknown[:3])} …; {_REMEDY}")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            found = list(tensors[name].shape)
            raise CheckpointError(f"{origin}: {name} has the shape {found}, expected {list(shape)}")
        if not bool(tensors[name].isfinite().all()):
            raise CheckpointError(f"{origin}: {name} holds values that are not finite; {_REMEDY}")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); {_REMEDY}") from None
