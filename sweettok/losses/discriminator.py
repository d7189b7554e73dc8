"""A discriminator that judges overlapping patches of a clip, or of a single image.

Strided 3-D convolutions halve height and width `depth` times and time up to `num_temporal_halvings`
times; every logit judges one patch. Time is padded by repeating the first and last frame, so an
image is judged as a clip that stands still, by the same weights.

Normalisation is group normalisation: it has no state that moves in the forward pass, needs no
agreement between workers or between the calls for originals and reconstructions, and computes in
float32 under autocast. So it is the same under one worker, DDP and FSDP. (Batch normalisation
couples the samples of a batch and the workers; spectral normalisation writes to buffers in every
forward pass and needs whole weight matrices, which FSDP shards.)

Source: arXiv:1611.07004 (PatchGAN), section 3.2.2; arXiv:1803.08494 (group normalisation).
"""

from __future__ import annotations

import pydantic
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sweettok.errors import ShapeError
from sweettok.strict_config import StrictConfig

_LEAKY_SLOPE = 0.2
_CHANNELS_PER_GROUP = 16


class DiscriminatorConfig(StrictConfig):
    """Sizes of the discriminator.

    Attributes:
        width: Channels after the first convolution; each further one doubles them, up to 8 times
            `width`. A multiple of 16.
        depth: Convolutions that halve height and width: frames need at least 2**depth pixels.
        num_temporal_halvings: How many of the first of them halve the number of frames as well.
    """

    width: int = pydantic.Field(default=64, ge=16, multiple_of=_CHANNELS_PER_GROUP)
    depth: int = pydantic.Field(default=3, ge=1, le=6)
    num_temporal_halvings: int = pydantic.Field(default=2, ge=0)

    @pydantic.model_validator(mode="after")
    def _halvings_fit(self) -> DiscriminatorConfig:
        if self.num_temporal_halvings > self.depth:
            raise ValueError(
                f"num_temporal_halvings must be at most depth = {self.depth}, "
                f"found {self.num_temporal_halvings}"
            )
        return self


class PatchDiscriminator(nn.Module):
    """Judges the patches of clips and images.

    A logit sees `receptive_field` pixels through the convolutions, centred on its patch; beyond
    that, normalisation lets it know the mean and variance of the clip's features.

    Args:
        config: Sizes.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * min(2**level, 8) for level in range(config.depth)]
        halving = []
        channels = 3
        for level, width in enumerate(widths):
            time_stride = 2 if level < config.num_temporal_halvings else 1
            halving.append(_HalvingConvolution(channels, width, time_stride, normalise=level > 0))
            channels = width
        self.halving = nn.ModuleList(halving)
        self.mixing = _TimePaddedConvolution(channels, channels, kernel_px=3, stride=(1, 1))
        self.mixing_norm = _group_norm(channels)
        self.head = _TimePaddedConvolution(channels, 1, kernel_px=3, stride=(1, 1))
        self.apply(_initialise)

    def forward(
        self, video: Float[Tensor, "b c t h w"]
    ) -> Float[Tensor, "b t_patch h_patch w_patch"]:
        """Logits of patches: larger means "looks like an original".

        Args:
            video: RGB in [-1, 1]; any number of frames from 1, sides of at least 2**depth pixels.

        Raises:
            ShapeError: `video` is not RGB clips, or its frames are too small for the depth.
        """
        self._check(video)
        features = video
        for layer in self.halving:
            features = layer(features)
        features = F.leaky_relu(self.mixing_norm(self.mixing(features)), _LEAKY_SLOPE)
        return self.head(features).squeeze(1)

    @property
    def num_parameters(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Frames and pixels (along height, and along width) that the convolutions show a logit."""
        frames = pixels = frames_per_step = pixels_per_step = 1
        for module in self.modules():
            if isinstance(module, _TimePaddedConvolution):
                kernel_frames, kernel_px, _ = module.convolution.kernel_size
                time_stride, space_stride, _ = module.convolution.stride
                frames += (kernel_frames - 1) * frames_per_step
                pixels += (kernel_px - 1) * pixels_per_step
                frames_per_step *= time_stride
                pixels_per_step *= space_stride
        return frames, pixels

    def _check(self, video: Tensor) -> None:
        shape = list(video.shape)
        if video.ndim != 5 or video.shape[1] != 3 or not video.shape[2]:
            raise ShapeError(f"expected RGB clips [batch, 3, frames, height, width], found {shape}")
        smallest_px = 2**self.config.depth
        if min(video.shape[3:]) < smallest_px:
            raise ShapeError(
                f"a discriminator of depth {self.config.depth} needs frames of at least "
                f"{smallest_px}×{smallest_px} px, found {shape}; lower its depth"
            )


class _TimePaddedConvolution(nn.Module):
    """3 frames × kernel_px²; outside, frames repeat the border and pixels are 0."""

    def __init__(
        self, channels_in: int, channels_out: int, *, kernel_px: int, stride: tuple[int, int]
    ) -> None:
        super().__init__()
        time_stride, space_stride = stride
        self.convolution = nn.Conv3d(
            channels_in,
            channels_out,
            kernel_size=(3, kernel_px, kernel_px),
            stride=(time_stride, space_stride, space_stride),
            padding=(0, 1, 1),
        )

    def forward(self, features: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        return self.convolution(F.pad(features, (0, 0, 0, 0, 1, 1), mode="replicate"))


class _HalvingConvolution(nn.Module):
    def __init__(
        self, channels_in: int, channels_out: int, time_stride: int, *, normalise: bool
    ) -> None:
        super().__init__()
        self.convolution = _TimePaddedConvolution(
            channels_in, channels_out, kernel_px=4, stride=(time_stride, 2)
        )
        self.norm = _group_norm(channels_out) if normalise else nn.Identity()

    def forward(self, features: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        return F.leaky_relu(self.norm(self.convolution(features)), _LEAKY_SLOPE)


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _CHANNELS_PER_GROUP, channels)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, a=_LEAKY_SLOPE, nonlinearity="leaky_relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)
