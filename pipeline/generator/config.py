"""Settings of one generator training run; `configs/train_generator.yaml` is a complete example."""

from __future__ import annotations

from typing import Any

import pydantic

from pipeline.cluster import ClusterConfig
from pipeline.dataset import DatasetConfig
from pipeline.generator.model import GeneratorConfig
from pipeline.generator.sampling import SamplingConfig
from pipeline.reading import OrderConfig
from pipeline.storage import normalized_uri
from pipeline.training.config import WorkersConfig
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


class GeneratorEvaluationConfig(StrictConfig):
    """When held-out clips are looked at, and samples are drawn.

    Attributes:
        every_steps: Steps between two looks.
        max_clips: Held-out clips, the first so many.
        num_samples: Samples drawn for the picture; 0 draws none.
        sampling: How.
    """

    every_steps: int = pydantic.Field(default=500, ge=1)
    max_clips: int = pydantic.Field(default=256, ge=1)
    num_samples: int = pydantic.Field(default=4, ge=0)
    sampling: SamplingConfig = SamplingConfig()


class GeneratorRunConfig(StrictConfig):
    """Where the run keeps its checkpoints and its result.

    Attributes:
        storage_path: Directory (or URI) that all nodes reach; checkpoints go to `<path>/<name>`.
        name: Name of the run. The same path and name continue an interrupted run.
        output: Directory of the finished generator, on the machine that starts the job.
        checkpoint_every_steps: Steps between checkpoints.
        keep_checkpoints: How many of them to keep.
        log_every_steps: Steps between log lines.
        tensorboard: Directory for TensorBoard, on the first worker's machine; null writes none.
    """

    storage_path: str
    name: str = pydantic.Field(default="generator", pattern=r"^[A-Za-z0-9._-]+$")
    output: str
    checkpoint_every_steps: int = pydantic.Field(default=500, ge=1)
    keep_checkpoints: int = pydantic.Field(default=2, ge=1)
    log_every_steps: int = pydantic.Field(default=20, ge=1)
    tensorboard: str | None = None


class TrainGeneratorConfig(StrictConfig):
    """One run of `jobs/train_generator.py`.

    Attributes:
        data, model, training, workers, run, cluster: Settings of the parts.
        evaluation: When held-out clips are looked at; null: never.
    """

    data: TokenDataConfig
    model: GeneratorConfig = GeneratorConfig()
    training: GeneratorTrainingConfig
    evaluation: GeneratorEvaluationConfig | None = GeneratorEvaluationConfig()
    workers: WorkersConfig = WorkersConfig()
    run: GeneratorRunConfig
    cluster: ClusterConfig = ClusterConfig()

    @pydantic.model_validator(mode="after")
    def _parts_fit(self) -> TrainGeneratorConfig:
        if self.training.optimizer.kind != "adamw":
            raise ValueError("training.optimizer.kind must be 'adamw' for a generator")
        return self

    def placed(self, dataset_uri: str) -> TrainGeneratorConfig:
        """The same settings with absolute places, for workers, which run in other directories.

        Args:
            dataset_uri: The token dataset's normalised URI.
        """
        values = self.to_mapping()
        values["data"]["dataset"]["uri"] = dataset_uri
        for section, name in (("data", "cache_directory"), ("run", "tensorboard")):
            if values[section][name] is not None:
                values[section][name] = normalized_uri(values[section][name])
        return TrainGeneratorConfig.from_mapping(values)

    @property
    def recipe(self) -> dict[str, object]:
        """The parts that decide the trained weights; two runs with one recipe are one run."""
        mapping = self.to_mapping()
        data = dict(mapping["data"])
        for name in ("cache_directory", "cache_bytes"):
            del data[name]
        return {
            "data": data,
            "model": mapping["model"],
            "training": mapping["training"],
            "num_workers": self.workers.num_workers,
        }
