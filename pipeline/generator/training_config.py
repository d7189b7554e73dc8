"""What a generator learns from and how: the settings of its trainer, which knows no engine."""

from __future__ import annotations

from typing import Any

import pydantic

from pipeline.dataset import DatasetConfig
from pipeline.reading import OrderConfig
from pipeline.training.ema import EmaConfig
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.phases import PhaseConfig
from pipeline.training.precision import Precision
from sweettok.strict_config import StrictConfig


class TokenDataConfig(StrictConfig):
    """Which clips a generator learns from.

    Attributes:
        dataset: The token dataset.
        version: The version to read; null: the latest when the run begins, and that one then.
        filters: Which clips, as [[column, operator, value], …].
        validation_filters: Which clips are held out, written the same way; give filters that do
            not overlap. Null evaluates on training clips.
        class_column: Column whose values are the classes; null trains without.
        order: Windows of the shuffled order; its seed is the run's.
        cache_directory: Keeps decoded row groups on each worker's disk; null reads the store.
        cache_bytes: Upper bound of that.
    """

    dataset: DatasetConfig
    version: int | None = pydantic.Field(default=None, ge=0)
    filters: list[tuple[str, str, Any]] | None = None
    validation_filters: list[tuple[str, str, Any]] | None = None
    class_column: str | None = None
    order: OrderConfig = OrderConfig()
    cache_directory: str | None = None
    cache_bytes: int = pydantic.Field(default=64 * 2**30, ge=1)


class GeneratorTrainingConfig(StrictConfig):
    """Steps and optimiser.

    Attributes:
        num_steps: Optimiser steps.
        batch_size_per_worker: Sequences of one forward pass on each worker.
        accumulation_steps: Forward passes whose gradients are averaged for one step.
        warmup_steps: Steps of linear warm-up.
        final_fraction: Share of the peak rate that the cosine leaves at the end.
        class_dropout: Share of the sequences that learn without their class, for guidance.
        optimizer: AdamW's settings.
        precision: "bf16", "fp32", or "auto": bf16 where the device multiplies it in hardware.
        ema: A moving average of the weights is evaluated, sampled and saved; null: the weights.
        seed: Seed of weights, order and class dropout.
    """

    num_steps: int = pydantic.Field(ge=1)
    batch_size_per_worker: int = pydantic.Field(default=8, ge=1)
    accumulation_steps: int = pydantic.Field(default=1, ge=1)
    warmup_steps: int = pydantic.Field(default=100, ge=0)
    final_fraction: float = pydantic.Field(default=0.1, ge=0, le=1)
    class_dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4, beta2=0.95, weight_decay=0.1)
    precision: Precision = "auto"
    ema: EmaConfig | None = None
    seed: int = pydantic.Field(default=0, ge=0)

    @property
    def schedule(self) -> PhaseConfig:
        """The learning rate's curve."""
        return PhaseConfig(
            num_steps=self.num_steps,
            warmup_steps=self.warmup_steps,
            final_fraction=self.final_fraction,
        )
