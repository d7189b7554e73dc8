"""A small network that names motions, trained here: a yardstick for videos of moving figures.

Its accuracy on original held-out clips says how far the yardstick can be trusted, its accuracy on
reconstructions whether the action survived, and its last features give the Fréchet distance on the
motion network. That is no FVD: another network, other data; compare it only with itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pydantic
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from pipeline.motion_corpus.motions import MOTION_NAMES
from pipeline.whole_files import replace_file
from sweettok.strict_config import StrictConfig

NUM_CLASSES = len(MOTION_NAMES)
_DROPOUT = 0.1
_GROUP_CHANNELS = 8


class MotionNetworkConfig(StrictConfig):
    """Size and training of the motion network.

    Attributes:
        width: Channels of the first layer; later layers have two to four times as many.
        num_features: Features of a clip, the layer before the classes.
        num_steps: Training steps.
        batch_size: Clips per step.
        learning_rate: Peak rate of AdamW; a single cycle.
        seed: Seed of weights, clips and augmentation.
    """

    width: int = pydantic.Field(default=24, ge=8, multiple_of=8)
    num_features: int = pydantic.Field(default=64, ge=2)
    num_steps: int = pydantic.Field(default=2000, ge=1)
    batch_size: int = pydantic.Field(default=16, ge=2)
    learning_rate: float = pydantic.Field(default=5e-3, gt=0)
    seed: int = 0


class MotionNetwork(nn.Module):
    """Frames and their differences → patches → 3-D convolutions → features → classes.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: MotionNetworkConfig) -> None:
        super().__init__()
        width = config.width
        self.patches = nn.Conv2d(6, width, kernel_size=6, stride=4, padding=1)
        self.volume = nn.Sequential(
            _normalisation(width),
            nn.GELU(),
            _convolution(width, 2 * width, stride=(2, 2, 2)),
            _convolution(2 * width, 3 * width, stride=(2, 1, 1)),
            _convolution(3 * width, 4 * width, stride=(2, 2, 2)),
        )
        self.to_features = nn.Linear(8 * width, config.num_features)
        self.to_classes = nn.Linear(config.num_features, NUM_CLASSES)

    def features(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b f"]:
        """Features of clips in [-1, 1]."""
        before = torch.cat([video[:, :, :1], video[:, :, :-1]], dim=2)
        stacked = torch.cat([video, 2 * (video - before)], dim=1)
        planes = self.patches(rearrange(stacked, "b c t h w -> (b t) c h w"))
        volume = rearrange(planes, "(b t) d y x -> b d t y x", b=len(video))
        volume = self.volume(volume)
        # Means say how much there is of something, maxima that it is there, however thin.
        pooled = torch.cat([volume.mean(dim=(2, 3, 4)), volume.amax(dim=(3, 4)).mean(dim=2)], dim=1)
        return F.gelu(self.to_features(pooled))

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b classes"]:
        """Class scores of clips in [-1, 1]."""
        return self.to_classes(F.dropout(self.features(video), _DROPOUT, self.training))


@dataclass(frozen=True, eq=False)
class TrainedMotionNetwork:
    """The network in inference mode, and what it is worth.

    Attributes:
        network: The network.
        accuracy: Share of held-out original clips that it names rightly, in [0, 1].
        recipe: Hash of everything that decided its weights.
    """

    network: MotionNetwork
    accuracy: float
    recipe: str


class MotionReading:
    """What the network sees in a set of clips, gathered batch by batch."""

    def __init__(self, trained: TrainedMotionNetwork) -> None:
        self._network = trained.network
        self._features: list[Tensor] = []

    @torch.no_grad()
    def add(self, video: Float[Tensor, "b c t h w"]) -> None:
        """Looks at clips in [-1, 1]."""
        self._features.append(self._network.features(video))

    @property
    def features(self) -> Float[Tensor, "n f"]:
        """The features of each clip."""
        return torch.cat(self._features)

    @property
    def named(self) -> Int[Tensor, " n"]:
        """The motion that each clip was taken for."""
        with torch.no_grad():
            return self._network.to_classes(self.features).argmax(dim=1)


def save_motion_network(
    path: Path, network: MotionNetwork, config: MotionNetworkConfig, accuracy: float, recipe: str
) -> None:
    """Writes a network with its config and its accuracy; a file under `path` is whole."""
    metadata = {
        "config": json.dumps(config.to_mapping()),
        "accuracy": repr(accuracy),
        "recipe": recipe,
    }
    replace_file(path, safetensors.torch.save(dict(network.state_dict()), metadata=metadata))


def load_motion_network(path: Path) -> TrainedMotionNetwork:
    """Reads what `save_motion_network` wrote."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    config = MotionNetworkConfig.from_mapping(json.loads(metadata["config"]), origin=str(path))
    network = MotionNetwork(config)
    network.load_state_dict(safetensors.torch.load_file(path), strict=True)
    return TrainedMotionNetwork(network.eval(), float(metadata["accuracy"]), metadata["recipe"])


def _convolution(inputs: int, outputs: int, *, stride: tuple[int, int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        _normalisation(outputs),
        nn.GELU(),
    )


def _normalisation(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _GROUP_CHANNELS, channels)
