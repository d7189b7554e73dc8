"""Settings of one generator training run; `configs/train_generator.yaml` is a complete example."""

from __future__ import annotations

import pydantic

from pipeline.cluster import ClusterConfig
from pipeline.generator.evaluation import GeneratorEvaluationConfig
from pipeline.generator.model import GeneratorConfig
from pipeline.generator.training_config import GeneratorTrainingConfig, TokenDataConfig
from pipeline.storage import normalized_uri
from pipeline.training.config import WorkersConfig
from sweettok.strict_config import StrictConfig


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
