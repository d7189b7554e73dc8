"""The discriminator's side of training: it judges, it learns, and it keeps its own state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.training.optimizer import ModelOptimizer, OptimizerConfig
from pipeline.training.parallel import gradients_shared, replicate
from pipeline.training.precision import autocast
from pipeline.training.tensor_names import prefixed, without_prefix
from sweettok.losses.adversarial import (
    AdversarialConfig,
    AdversarialKind,
    LeCam,
    discriminator_loss,
    generator_loss,
)
from sweettok.losses.discriminator import DiscriminatorConfig, PatchDiscriminator


class Adversary:
    """A discriminator, its optimiser and its LeCam averages.

    Small beside the tokenizer, so every worker holds all of it, under FSDP too.

    Args:
        config: Sizes of the discriminator.
        optimizer: Its optimiser.
        seed: Of its first weights; the tokenizer's random numbers are left alone.
        device: Where it computes.
        dtype: Format of its matrix products, as `autocast_dtype` gives it.
    """

    def __init__(
        self,
        config: DiscriminatorConfig,
        optimizer: OptimizerConfig,
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._dtype = dtype
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.discriminator = PatchDiscriminator(config).to(device)
        self.lecam = LeCam(decay=0.0).to(device)
        self.optimizer = ModelOptimizer(self.discriminator, optimizer)
        self._replica: nn.Module = replicate(
            self.discriminator, device, has_unused_parameters=False
        )

    def begin_phase(self, config: AdversarialConfig, *, reset_optimizer: bool) -> None:
        """Takes over the phase's settings."""
        self.lecam.decay = config.lecam_decay
        if reset_optimizer:
            self.optimizer.reset()

    def judge(
        self, reconstruction: Float[Tensor, "b c t h w"], kind: AdversarialKind
    ) -> Float[Tensor, ""]:
        """The tokenizer's adversarial loss; its gradient does not reach the discriminator."""
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        with autocast(self._dtype, reconstruction.device):
            logits = functional_call(self.discriminator, frozen, (reconstruction,))
        return generator_loss(logits, kind)

    def learn(
        self,
        video: Float[Tensor, "b c t h w"],
        reconstruction: Float[Tensor, "b c t h w"],
        config: AdversarialConfig,
        *,
        num_batches: int = 1,
        is_last: bool = True,
    ) -> dict[str, Float[Tensor, ""]]:
        """Adds the gradients of one of a step's `num_batches` batches; its losses by name."""
        with gradients_shared(self._replica, is_last):
            with autocast(self._dtype, video.device):
                # One pass over both: under DDP, each backward pass belongs to one forward pass.
                logits = self._replica(torch.cat([video, reconstruction.detach()]))
            real, fake = logits.chunk(2)
            loss = discriminator_loss(real, fake, config.kind)
            losses = {"discriminator": loss.detach()}
            if config.lecam_weight:
                lecam = self.lecam(real, fake)
                losses["lecam"] = lecam.detach()
                loss = loss + config.lecam_weight * lecam
            (loss / num_batches).backward()
        return losses

    def state_tensors(self) -> dict[str, Tensor]:
        """Weights, LeCam averages and moments, on CPU."""
        return (
            prefixed("weights", self.discriminator.state_dict())
            | prefixed("lecam", self.lecam.state_dict())
            | prefixed("optimizer", self.optimizer.state_tensors())
        )

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state_tensors` gave."""
        self.discriminator.load_state_dict(without_prefix("weights", tensors), strict=True)
        self.lecam.load_state_dict(without_prefix("lecam", tensors), strict=True)
        self.optimizer.load_state_tensors(without_prefix("optimizer", tensors))
