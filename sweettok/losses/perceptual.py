"""How different two clips look: distance of deep features, frame by frame, in a frozen network.

* `vgg16`, the VGG distance: the squared difference of features that are normalised over channels,
  summed over channels, averaged over positions and over five layers of a VGG-16.
* `lpips_vgg16`: LPIPS, where trained heads weigh the channels. It needs the very ImageNet weights
  that the heads were trained on (torchvision's) to deserve its name.

`python jobs/fetch_feature_weights.py` makes the weight files.

Source: arXiv:1801.03924 (LPIPS), equation 1 and section 3.
"""

from __future__ import annotations

from typing import Any, Literal

import pydantic
import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sweettok.errors import CheckpointError, ShapeError
from sweettok.losses.vgg import SMALLEST_FRAME_PX, VggFeatures, load_lpips_heads
from sweettok.strict_config import StrictConfig

# Smallest norm over channels that is divided by: a position without any feature stays 0, and its
# gradient finite.
_SMALLEST_NORM = 1e-10


class PerceptualConfig(StrictConfig):
    """Which features are compared, and how much work that may be.

    Attributes:
        network: "none", "vgg16" (VGG distance) or "lpips_vgg16" (LPIPS).
        weights: safetensors file of the VGG-16 convolutions; required unless network is "none".
        heads: safetensors file of LPIPS's heads; required for "lpips_vgg16", null otherwise.
        frames_per_clip: Frames of each clip that are compared; null compares all of them. Work
            and time are proportional to it.
        frames_per_chunk: Frames that are in the network at one time, the bound of its memory: a
            frame of 128×128 px takes about 60 MiB in float32, one of 256×256 px four times that.
    """

    network: Literal["none", "vgg16", "lpips_vgg16"] = "none"
    weights: str | None = None
    heads: str | None = None
    frames_per_clip: int | None = pydantic.Field(default=None, ge=1)
    frames_per_chunk: int = pydantic.Field(default=8, ge=1)

    @pydantic.model_validator(mode="after")
    def _files_fit_the_network(self) -> PerceptualConfig:
        for name, wanted in (
            ("weights", self.network != "none"),
            ("heads", self.network == "lpips_vgg16"),
        ):
            given = getattr(self, name) is not None
            if wanted and not given:
                raise ValueError(
                    f"network {self.network!r} needs {name}, a safetensors file; "
                    "`python jobs/fetch_feature_weights.py` makes it"
                )
            if given and not wanted:
                raise ValueError(f"network {self.network!r} reads no {name}; set it to null")
        return self


def create_perceptual_distance(config: PerceptualConfig) -> PerceptualDistance | None:
    """Loads the network that `config` names; None for "none".

    Raises:
        CheckpointError: A weight file is missing, incomplete or of another network, or the network
            is one that LPIPS's heads were not trained on.
    """
    if config.network == "none":
        return None
    assert config.weights is not None
    features = VggFeatures.load(config.weights)
    if config.heads is not None and not features.reads_torchvision_input:
        raise CheckpointError(
            f"{config.weights}: {features.origin} is not the network that LPIPS's heads were "
            "trained on; convert torchvision's VGG-16, or set network to vgg16"
        )
    return PerceptualDistance(
        features,
        heads=None if config.heads is None else load_lpips_heads(config.heads),
        frames_per_clip=config.frames_per_clip,
        frames_per_chunk=config.frames_per_chunk,
    )


class PerceptualDistance(nn.Module):
    """Mean distance of the compared frames of each clip.

    The network has no parameters and an empty state dict: nothing of it is trained, averaged,
    sharded or saved. Under autocast its convolutions run in the autocast type; distances are
    float32.

    Gradients reach the reconstruction alone. They are computed chunk by chunk within the forward
    pass, so no activation outlives its chunk, and going backward twice (as an adaptive weight
    does) costs nothing. Second derivatives are refused.

    Args:
        features: The frozen network.
        heads: Non-negative channel weights of each layer (LPIPS); None weighs channels equally and
            averages over layers (VGG distance).
        frames_per_clip, frames_per_chunk: As in `PerceptualConfig`.
    """

    def __init__(
        self,
        features: VggFeatures,
        *,
        heads: list[Float[Tensor, " channels"]] | None = None,
        frames_per_clip: int | None = None,
        frames_per_chunk: int = 8,
    ) -> None:
        super().__init__()
        self.features = features
        self.frames_per_clip = frames_per_clip
        self.frames_per_chunk = frames_per_chunk
        self.num_heads = 0 if heads is None else len(heads)
        for index, head in enumerate(heads or ()):
            self.register_buffer(f"head_{index}", head, persistent=False)

    @property
    def name(self) -> str:
        """What the number is to be called, with the network it comes from."""
        return f"{'LPIPS' if self.num_heads else 'VGG distance'}, {self.features.origin}"

    def forward(
        self,
        original: Float[Tensor, "b c t h w"],
        reconstruction: Float[Tensor, "b c t h w"],
        *,
        seed: int | None = None,
    ) -> Float[Tensor, " b"]:
        """Distance of each clip, at least 0; 0 for equal clips.

        Args:
            original: RGB in [-1, 1].
            reconstruction: Same shape and range.
            seed: Which frames are compared if `frames_per_clip` says fewer than all. None takes
                the middle frames of equal spans; a number (the step, say) takes one frame at
                random from each span of each clip, the same ones for the same number: in
                expectation every frame counts alike.

        Raises:
            ShapeError: The shapes differ, or are not those of RGB clips of at least 16×16 px.
        """
        _check_clips(original, reconstruction)
        compared, remade = self._compared_frames(original, reconstruction, seed)
        frame_distances = _ChunkedDistances.apply(remade, compared.detach(), self)
        return reduce(frame_distances, "(b t) -> b", "mean", b=len(original))

    def frame_distances(
        self, original: Float[Tensor, "n c h w"], reconstruction: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, " n"]:
        """Distance of each pair of frames at once; ordinary autograd, for both sides."""
        layers = zip(self.features(original), self.features(reconstruction), strict=True)
        total = original.new_zeros(len(original), dtype=torch.float32)
        for index, (expected, found) in enumerate(layers):
            difference = (_unit_channels(expected) - _unit_channels(found)).square()
            if self.num_heads:
                head = rearrange(self.get_buffer(f"head_{index}"), "c -> c 1 1")
                difference = difference * head
            total = total + reduce(difference, "n c h w -> n h w", "sum").mean(dim=(1, 2))
        return total if self.num_heads else total / self.features.num_layers

    def _compared_frames(
        self, original: Tensor, reconstruction: Tensor, seed: int | None
    ) -> tuple[Tensor, Tensor]:
        """Both clips' compared frames, "(b t) c h w"."""
        num_clips, _, num_frames = original.shape[:3]
        if self.frames_per_clip is None or self.frames_per_clip >= num_frames:
            pattern = "b c t h w -> (b t) c h w"
            return rearrange(original, pattern), rearrange(reconstruction, pattern)
        chosen = choose_frames(num_clips, num_frames, self.frames_per_clip, seed)
        chosen = chosen.to(original.device, non_blocking=True)
        clip = torch.arange(num_clips, device=original.device).unsqueeze(1)
        return (
            rearrange(original[clip, :, chosen], "b t c h w -> (b t) c h w"),
            rearrange(reconstruction[clip, :, chosen], "b t c h w -> (b t) c h w"),
        )


def choose_frames(
    num_clips: int, num_frames: int, frames_per_clip: int, seed: int | None
) -> Int[Tensor, "num_clips frames_per_clip"]:
    """One frame from each of `frames_per_clip` equal spans: the middle one, or one at random.

    Drawn on CPU, so that every device compares the same frames for the same `seed`.
    """
    span = num_frames / frames_per_clip
    within = torch.full((num_clips, frames_per_clip), 0.5)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        within = torch.rand(num_clips, frames_per_clip, generator=generator)
    frames = ((torch.arange(frames_per_clip) + within) * span).long()
    return frames.clamp_(max=num_frames - 1)


class _ChunkedDistances(torch.autograd.Function):
    """Distances of many frames, and their gradient, with one chunk in the network at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        reconstruction: Tensor,
        original: Tensor,
        distance: PerceptualDistance,
    ) -> Tensor:
        chunks = zip(
            reconstruction.split(distance.frames_per_chunk),
            original.split(distance.frames_per_chunk),
            strict=True,
        )
        if not ctx.needs_input_grad[0]:
            return torch.cat([distance.frame_distances(old, new) for new, old in chunks])
        distances, gradients = [], []
        for new, old in chunks:
            with torch.enable_grad():
                leaf = new.detach().float().requires_grad_()
                values = distance.frame_distances(old, leaf)
                (gradient,) = torch.autograd.grad(values.sum(), leaf)
            distances.append(values.detach())
            gradients.append(gradient.to(reconstruction.dtype))
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(distances)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        weights = rearrange(output_gradients[0], "n -> n 1 1 1")
        return (gradients * weights).to(gradients.dtype), None, None


def _unit_channels(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    features = features.float()
    squared_norm = reduce(features.square(), "n c h w -> n 1 h w", "sum")
    return features * squared_norm.clamp_min(_SMALLEST_NORM**2).rsqrt()


def _check_clips(original: Tensor, reconstruction: Tensor) -> None:
    shapes = f"original {list(original.shape)}, reconstruction {list(reconstruction.shape)}"
    if original.shape != reconstruction.shape:
        raise ShapeError(f"both clips must have the same shape, found {shapes}")
    if original.ndim != 5 or original.shape[1] != 3 or not original.numel():
        raise ShapeError(f"expected RGB clips [batch, 3, frames, height, width], found {shapes}")
    if min(original.shape[3:]) < SMALLEST_FRAME_PX:
        raise ShapeError(
            f"the network halves frames four times and needs {SMALLEST_FRAME_PX}×"
            f"{SMALLEST_FRAME_PX} px or more, found {shapes}"
        )
