"""What decides a model's training besides the model and the data."""

from __future__ import annotations

import pydantic

from pipeline.training.ema import EmaConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.phases import PhaseConfig
from pipeline.training.precision import Precision
from sweettok.losses.discriminator import DiscriminatorConfig
from sweettok.losses.perceptual import PerceptualConfig
from sweettok.strict_config import StrictConfig


class TrainerConfig(StrictConfig):
    """Phases, optimisers and what goes with them.

    Attributes:
        phases: The phases by name, in their order.
        optimizer: The tokenizer's.
        precision: "bf16" or "fp32", or "auto": bf16 where the device multiplies it in hardware.
        ema: A moving average of the weights is evaluated and saved; null: the weights themselves.
        perceptual: The network behind `loss.perceptual`.
        discriminator, discriminator_optimizer: For phases with an adversarial part.
        seed: Seed of weights, data order and augmentation.
    """

    phases: dict[str, PhaseConfig] = pydantic.Field(min_length=1)
    optimizer: OptimizerConfig = OptimizerConfig()
    precision: Precision = "auto"
    ema: EmaConfig | None = None
    perceptual: PerceptualConfig = PerceptualConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    discriminator_optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = pydantic.Field(default=0, ge=0)

    @pydantic.model_validator(mode="after")
    def _parts_fit(self) -> TrainerConfig:
        for name, phase in self.phases.items():
            if phase.loss.perceptual and self.perceptual.network == "none":
                raise ValueError(
                    f"phases.{name}.loss.perceptual is {phase.loss.perceptual:g}, but "
                    "perceptual.network is 'none'; name a network or set the weight to 0"
                )
        if self.discriminator_optimizer.kind != "adamw":
            raise ValueError("discriminator_optimizer.kind must be 'adamw': it has no blocks")
        return self

    @property
    def trains_images(self) -> bool:
        """Whether any phase trains image mode."""
        return any(phase.has_images for phase in self.phases.values())
