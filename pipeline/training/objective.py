"""What the tokenizer minimises, before any discriminator: a weighted sum of named losses."""

from __future__ import annotations

from collections.abc import Iterable

import pydantic
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sweettok.losses.perceptual import PerceptualDistance
from sweettok.model import SweetTokOutput
from sweettok.strict_config import StrictConfig

RECONSTRUCTION_LOSSES = ("squared_error", "absolute_error", "perceptual")


ALL_LOSSES = (*RECONSTRUCTION_LOSSES, "quantizer")


class LossConfig(StrictConfig):
    """Weights of the losses.

    Attributes:
        squared_error: Weight of the mean squared error over pixels in [-1, 1].
        absolute_error: Weight of the mean absolute error.
        perceptual: Weight of the perceptual distance; needs a network in `training.perceptual`.
        quantizer: Weight of both quantisers' commitment, codebook and entropy terms; never 0:
            nothing else trains the codebooks.
    """

    squared_error: float = pydantic.Field(default=1.0, ge=0)
    absolute_error: float = pydantic.Field(default=0.0, ge=0)
    perceptual: float = pydantic.Field(default=0.0, ge=0)
    quantizer: float = pydantic.Field(default=0.1, gt=0)

    @pydantic.model_validator(mode="after")
    def _something_is_reconstructed(self) -> LossConfig:
        if not any(getattr(self, name) for name in RECONSTRUCTION_LOSSES):
            raise ValueError(f"one of {', '.join(RECONSTRUCTION_LOSSES)} must be above 0")
        return self


def tokenizer_losses(
    video: Float[Tensor, "b c t h w"],
    output: SweetTokOutput,
    config: LossConfig,
    perceptual: PerceptualDistance | None = None,
    *,
    seed: int = 0,
) -> dict[str, Float[Tensor, ""]]:
    """The losses that `config` gives weight to, by name, unweighted, in float32.

    Args:
        video: Originals, in [-1, 1].
        output: What the model made of them.
        config: Which losses.
        perceptual: The network; needed if `config.perceptual` is above 0.
        seed: Which frames the perceptual distance compares, if it does not compare all.
    """
    reconstruction = output.reconstruction.float()
    losses: dict[str, Tensor] = {}
    if config.squared_error:
        losses["squared_error"] = F.mse_loss(reconstruction, video)
    if config.absolute_error:
        losses["absolute_error"] = F.l1_loss(reconstruction, video)
    if config.perceptual:
        assert perceptual is not None, "TrainerConfig refuses a weight without a network"
        losses["perceptual"] = perceptual(video, reconstruction, seed=seed).mean()
    return losses | {"quantizer": output.quantizer_loss}


def weighted_sum(
    losses: dict[str, Tensor], config: LossConfig, names: Iterable[str]
) -> Float[Tensor, ""]:
    """Sum of the losses called `names`, as far as there are any, times their weights."""
    terms = [getattr(config, name) * losses[name] for name in names if name in losses]
    return torch.stack(terms).sum()
