"""Networks whose features a Fréchet distance is taken of, each known by the hash of its file.

* i3d: TorchScript with the call of the field's Fréchet video distance, arXiv:1812.01717:
  `network(video, rescale=True, resize=True, return_features=True)` for RGB in [0, 255],
  [b, 3, t, h, w]; with `return_features=False` it gives class scores. Only with such a file may a
  number be called FVD.
* motion: the motion network of `jobs/compare_methods.py`; it knows rendered figures only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, Protocol

import safetensors
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.evaluation.tokenizers import Video
from pipeline.proof.motion_network import load_motion_network
from sweettok.strict_config import StrictConfig

_HALF_RANGE = 127.5
_SHOWN_DIGITS = 8


class FeatureNetworkConfig(StrictConfig):
    """One network.

    Attributes:
        kind: "i3d" (FVD) or "motion".
        path: Its file.
        sha256: What the file must hash to; null takes any, and the result says which it was.
    """

    kind: Literal["i3d", "motion"]
    path: str
    sha256: str | None = None


class FeatureNetwork(Protocol):
    """Sees clips.

    Attributes:
        metric: What a Fréchet distance of its features is called.
        sha256: Hash of its file.
        num_features: Length of the features; None where only a call tells.
    """

    metric: str
    sha256: str
    num_features: int | None

    def features(self, video: Video) -> Float[Tensor, "b f"]:
        """Features of clips in [-1, 1]."""

    def probabilities(self, video: Video) -> Float[Tensor, "b classes"]:
        """How likely it thinks each class."""


def load_feature_network(config: FeatureNetworkConfig, device: torch.device) -> FeatureNetwork:
    """Loads the network that `config` names.

    Raises:
        PipelineError: The file is missing, is not what it should be, or has another hash.
    """
    path = Path(config.path)
    if not path.is_file():
        raise PipelineError(
            f"feature network {config.path}: no such file; "
            + (
                "jobs/compare_methods.py trains one"
                if config.kind == "motion"
                else "give the TorchScript file of an I3D trained on Kinetics-400"
            )
        )
    sha256 = file_sha256(path)
    if config.sha256 is not None and config.sha256 != sha256:
        raise PipelineError(
            f"feature network {config.path}: sha256 is {sha256}, the configuration asks for "
            f"{config.sha256}; numbers of another network do not compare"
        )
    if config.kind == "motion":
        return MotionFeatures(path, sha256, device)
    return I3dFeatures(path, sha256, device)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class MotionFeatures:
    """Features of the motion network."""

    def __init__(self, path: Path, sha256: str, device: torch.device) -> None:
        try:
            self._network = load_motion_network(path).network.to(device)
        except (safetensors.SafetensorError, KeyError, TypeError, RuntimeError) as error:
            raise PipelineError(
                f"feature network {path}: is no motion network ({_line(error)}); "
                "jobs/compare_methods.py trains one"
            ) from error
        self.sha256 = sha256
        self.num_features: int | None = self._network.to_features.out_features
        self.metric = f"Fréchet distance on the motion network {sha256[:_SHOWN_DIGITS]}"

    @torch.no_grad()
    def features(self, video: Video) -> Float[Tensor, "b f"]:
        """See `FeatureNetwork.features`."""
        return self._network.features(video)

    @torch.no_grad()
    def probabilities(self, video: Video) -> Float[Tensor, "b classes"]:
        """See `FeatureNetwork.probabilities`."""
        return self._network(video).softmax(dim=1)


class I3dFeatures:
    """Features of an I3D in TorchScript."""

    def __init__(self, path: Path, sha256: str, device: torch.device) -> None:
        try:
            self._network: nn.Module = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise PipelineError(
                f"feature network {path}: is no TorchScript file ({_line(error)})"
            ) from error
        self._path = path
        self.sha256 = sha256
        self.num_features: int | None = None
        self.metric = f"FVD on I3D {sha256[:_SHOWN_DIGITS]}"

    def features(self, video: Video) -> Float[Tensor, "b f"]:
        """See `FeatureNetwork.features`.

        Raises:
            PipelineError: The network is no I3D of the field's call, or the clips are too short.
        """
        return self._called(video, return_features=True)

    def probabilities(self, video: Video) -> Float[Tensor, "b classes"]:
        """See `FeatureNetwork.probabilities`; errors as for `features`."""
        return self._called(video, return_features=False).softmax(dim=1)

    @torch.no_grad()
    def _called(self, video: Video, *, return_features: bool) -> Tensor:
        pixels = (video.float() + 1) * _HALF_RANGE
        options: dict[str, Any] = {
            "rescale": True, "resize": True, "return_features": return_features
        }  # fmt: skip
        try:
            found = self._network(pixels, **options)
        except (RuntimeError, torch.jit.Error) as error:
            raise PipelineError(
                f"feature network {self._path}: fails on clips {list(video.shape)} with rescale, "
                f"resize and return_features ({_line(error)}); it must take clips of this length "
                "in the way of the I3D that FVD is computed with"
            ) from error
        if found.ndim != 2 or len(found) != len(video):
            raise PipelineError(
                f"feature network {self._path}: gives {list(found.shape)} for {len(video)} clips; "
                "an I3D for FVD gives [clips, features]"
            )
        return found.float()


def _line(error: Exception) -> str:
    """The last line of an error, where TorchScript says what went wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
