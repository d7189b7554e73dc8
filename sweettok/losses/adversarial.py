"""Adversarial training: objectives, LeCam regularisation, and how strongly the tokenizer listens.

`real` and `fake` are a discriminator's logits of originals and reconstructions, of any shape;
larger means "looks like an original". Losses are means over all logits, in float32.
"""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sweettok.strict_config import StrictConfig

AdversarialKind = Literal["hinge", "non_saturating"]

# Keeps the ratio of gradient norms finite; arXiv:2012.09841, equation 7, has 1e-6.
_SMALLEST_GRADIENT_NORM = 1e-6


class AdversarialConfig(StrictConfig):
    """The adversarial part of the training objective.

    Attributes:
        kind: Objective of the discriminator and the tokenizer.
        weight: Weight of the tokenizer's adversarial loss once fully ramped up; 0 switches the
            adversarial part off.
        adaptive: Multiply the weight by the ratio of gradient norms (`adaptive_weight`).
        max_adaptive_weight: Largest value of that ratio.
        start_step: First step at which discriminator and adversarial loss take part.
        ramp_steps: Steps over which the weight then rises linearly to `weight`; 0 for at once.
        lecam_weight: Weight of the LeCam term in the discriminator's loss; 0 switches it off.
        lecam_decay: Decay per update of LeCam's moving averages.
    """

    kind: AdversarialKind = "hinge"
    weight: float = pydantic.Field(default=0.01, ge=0)
    adaptive: bool = False
    max_adaptive_weight: float = pydantic.Field(default=1e4, gt=0)
    start_step: int = pydantic.Field(default=20_000, ge=0)
    ramp_steps: int = pydantic.Field(default=0, ge=0)
    lecam_weight: float = pydantic.Field(default=0.001, ge=0)
    lecam_decay: float = pydantic.Field(default=0.999, ge=0, lt=1)

    def is_active_at(self, step: int) -> bool:
        """Whether the discriminator trains and the adversarial loss counts at `step` (from 0)."""
        return self.weight > 0 and step >= self.start_step

    def weight_at(self, step: int) -> float:
        """Weight of the tokenizer's adversarial loss at `step` (counted from 0), in [0, weight].

        0 before `start_step`; step `start_step` takes the first of `ramp_steps` equal rises.
        """
        if not self.is_active_at(step):
            return 0.0
        if not self.ramp_steps:
            return self.weight
        return self.weight * min(1.0, (step - self.start_step + 1) / self.ramp_steps)


def discriminator_loss(
    real: Float[Tensor, "*real"], fake: Float[Tensor, "*fake"], kind: AdversarialKind
) -> Float[Tensor, ""]:
    """What the discriminator minimises; give it logits of *detached* reconstructions.

    Both kinds are the mean of a term for originals and one for reconstructions, so that an
    undecided discriminator (all logits 0) has the loss 1 (hinge) or ln 2 (non-saturating).

    Source: hinge: arXiv:1705.02894, section 3.2; non-saturating: arXiv:1406.2661, section 3.
    """
    real, fake = real.float(), fake.float()
    if kind == "hinge":
        return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def generator_loss(fake: Float[Tensor, "*fake"], kind: AdversarialKind) -> Float[Tensor, ""]:
    """What the tokenizer minimises: logits of its reconstructions should be large.

    Hinge: −mean(fake), of either sign. Non-saturating: mean(−log sigmoid(fake)), at least 0.
    """
    fake = fake.float()
    return -fake.mean() if kind == "hinge" else F.softplus(-fake).mean()


def adaptive_weight(
    reconstruction_loss: Float[Tensor, ""],
    adversarial_loss: Float[Tensor, ""],
    last_layer: Tensor,
    max_weight: float,
) -> Float[Tensor, ""]:
    """The weight at which both losses pull equally hard at the last layer.

    With `torch.distributed` initialised, squared norms are averaged over all workers, which must
    call this together: every worker then uses the same weight.

    Args:
        reconstruction_loss: Scalar; the reconstruction and perceptual losses.
        adversarial_loss: Scalar; `generator_loss`, unweighted.
        last_layer: The decoder's last weight, or any other tensor of the graph that both losses
            depend on. Under FSDP the sharded parameter is not part of the graph: give the
            reconstruction itself.
        max_weight: Largest weight to return.

    Returns:
        |∇ reconstruction_loss| / |∇ adversarial_loss|, in [0, max_weight], without gradient. Both
        graphs stay usable for the backward pass.

    Source: arXiv:2012.09841 (VQGAN), equation 7.
    """
    norms = torch.stack(
        [_squared_gradient(loss, last_layer) for loss in (reconstruction_loss, adversarial_loss)]
    )
    reconstruction_norm, adversarial_norm = _mean_over_workers(norms).sqrt()
    return (reconstruction_norm / (adversarial_norm + _SMALLEST_GRADIENT_NORM)).clamp(0, max_weight)


class LeCam(nn.Module):
    """Pulls logits of originals to the usual logits of reconstructions, and the other way round.

    Keeps a discriminator that has seen little data from growing ever surer. The two moving
    averages are part of the state dict. With `torch.distributed` initialised they are averages
    over all workers, which must call this together.

    Args:
        decay: Decay per update of the moving averages, in [0, 1).

    Source: arXiv:2104.03310, equation 5.
    Differs: the moving averages begin at the first batch instead of at 0.
    """

    real_average: Tensor
    fake_average: Tensor
    num_updates: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real_average", torch.zeros(()))
        self.register_buffer("fake_average", torch.zeros(()))
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))

    def forward(
        self, real: Float[Tensor, "*real"], fake: Float[Tensor, "*fake"]
    ) -> Float[Tensor, ""]:
        """The term to add, weighted, to the discriminator's loss; in training mode, averages move.

        Returns:
            mean((real − fake_average)²) + mean((fake − real_average)²), at least 0.
        """
        real, fake = real.float(), fake.float()
        if self.training:
            self._update(real, fake)
        # Copies: a second call before the backward pass moves the buffers.
        real_average, fake_average = self.real_average.clone(), self.fake_average.clone()
        return (real - fake_average).square().mean() + (fake - real_average).square().mean()

    @torch.no_grad()
    def _update(self, real: Tensor, fake: Tensor) -> None:
        means = _mean_over_workers(torch.stack([real.mean(), fake.mean()]))
        # No branch on the count's value: that would wait for the device.
        decay = torch.where(self.num_updates == 0, 0.0, self.decay)
        self.real_average.copy_(torch.lerp(means[0], self.real_average, decay))
        self.fake_average.copy_(torch.lerp(means[1], self.fake_average, decay))
        self.num_updates += 1


def _squared_gradient(loss: Tensor, wanted: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, wanted, retain_graph=True)
    return gradient.detach().float().square().sum()


def _mean_over_workers(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    values = values.clone()
    torch.distributed.all_reduce(values)
    return values / torch.distributed.get_world_size()
