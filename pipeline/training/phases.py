"""The phases of a run (image → video → adversarial fine-tune) and the learning rate within each.

A run is an ordered mapping of phases. Each has its own length, batches, losses and learning-rate
curve; a run interrupted anywhere goes on inside the phase in which it stopped.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import pydantic

from pipeline.training.objective import LossConfig
from sweettok.geometry import ClipGeometry
from sweettok.losses.adversarial import AdversarialConfig
from sweettok.strict_config import StrictConfig


class PhaseConfig(StrictConfig):
    """One phase of training.

    Attributes:
        num_steps: Optimiser steps of the phase.
        time_limit_s: End the phase after so many seconds of its steps (waiting for clips
            included; evaluation and checkpoints not) even if steps remain; the learning rate
            follows whichever of the two is further on. Null: no limit.
        num_frames: Frames per clip: 1 trains image mode, null takes the model's own clip length.
        image_fraction: Share of the steps that train image mode, evenly spread: such a step takes
            every fourth frame of its clips as an image of its own. Without one, image mode fades
            in phases of clips (LOG.md).
        batch_size_per_worker: Clips of one forward pass on each worker.
        accumulation_steps: Forward passes whose gradients are averaged for one optimiser step.
        learning_rate_scale: Factor on the optimiser's peak learning rates.
        warmup_steps: Steps of linear warm-up at the beginning of the phase.
        final_fraction: Share of the peak rates that is left at its end.
        reset_optimizer: Begin with fresh moments; otherwise those of the phase before go on.
        loss: Weights of the losses.
        adversarial: The discriminator's part; null trains without one.
    """

    num_steps: int = pydantic.Field(ge=1)
    time_limit_s: float | None = pydantic.Field(default=None, gt=0)
    num_frames: int | None = pydantic.Field(default=None, ge=1)
    image_fraction: float = pydantic.Field(default=0.0, ge=0, lt=1)
    batch_size_per_worker: int = pydantic.Field(default=8, ge=1)
    accumulation_steps: int = pydantic.Field(default=1, ge=1)
    learning_rate_scale: float = pydantic.Field(default=1.0, gt=0)
    warmup_steps: int = pydantic.Field(default=1000, ge=0)
    final_fraction: float = pydantic.Field(default=0.1, ge=0, le=1)
    reset_optimizer: bool = False
    loss: LossConfig = LossConfig()
    adversarial: AdversarialConfig | None = None

    @pydantic.model_validator(mode="after")
    def _the_discriminator_takes_part(self) -> PhaseConfig:
        settings = self.adversarial
        if settings is not None and settings.weight and settings.start_step >= self.num_steps:
            raise ValueError(
                f"adversarial.start_step is {settings.start_step}, but the phase has num_steps = "
                f"{self.num_steps}: its discriminator would never take part; lower start_step"
            )
        return self

    @property
    def is_image(self) -> bool:
        """Whether the phase trains image mode only."""
        return self.num_frames == 1

    @property
    def has_images(self) -> bool:
        """Whether some of its steps, or all, train image mode."""
        return self.is_image or self.image_fraction > 0

    def is_image_step(self, phase_step: int) -> bool:
        """Whether step number `phase_step` (from 0) turns its clips into single images."""
        share = self.image_fraction
        return math.floor((phase_step + 1) * share) > math.floor(phase_step * share)

    def geometry(self, model: ClipGeometry) -> ClipGeometry:
        """The clips that the phase wants from a model of this geometry.

        Raises:
            ConfigError: `num_frames` does not fit the geometry's tubes.
        """
        if self.num_frames is None:
            return model
        return ClipGeometry.from_mapping(model.to_mapping() | {"num_frames": self.num_frames})


@dataclass(frozen=True)
class TrainingPosition:
    """How far a run is.

    Attributes:
        phase_index: The phase that the next step belongs to; the number of phases if all are done.
        phase_step: Optimiser steps done in it.
        phase_elapsed_s: Seconds that these steps took.
        num_steps: Optimiser steps done in the whole run.
    """

    phase_index: int = 0
    phase_step: int = 0
    phase_elapsed_s: float = 0.0
    num_steps: int = 0

    def after_step(self, elapsed_s: float) -> TrainingPosition:
        """One optimiser step later, `elapsed_s` seconds into the phase."""
        return dataclasses.replace(
            self,
            phase_step=self.phase_step + 1,
            phase_elapsed_s=elapsed_s,
            num_steps=self.num_steps + 1,
        )

    def next_phase(self) -> TrainingPosition:
        """The beginning of the phase after this one."""
        return TrainingPosition(phase_index=self.phase_index + 1, num_steps=self.num_steps)

    def fraction_done(self, phase: PhaseConfig) -> float:
        """How much of `phase` is over, by steps or by time; it ends at 1."""
        by_steps = self.phase_step / phase.num_steps
        if phase.time_limit_s is None:
            return by_steps
        return max(by_steps, self.phase_elapsed_s / phase.time_limit_s)


def rate_at(phase: PhaseConfig, position: TrainingPosition) -> float:
    """Share of the peak learning rates for the next step of `phase`, scale included.

    Linear warm-up over steps times cosine decay over the fraction of the phase.
    """
    warmup = min(1.0, (position.phase_step + 1) / phase.warmup_steps) if phase.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, position.fraction_done(phase))))
    decay = phase.final_fraction + (1 - phase.final_fraction) * cosine
    return phase.learning_rate_scale * warmup * decay
