"""Settings of one tokenizer training run; `configs/train_tiny.yaml` is a complete example."""

from __future__ import annotations

from typing import Literal

import pydantic

from pipeline.cluster import ClusterConfig
from pipeline.training.data_config import DataConfig
from pipeline.training.evaluation import EvaluationConfig
from pipeline.training.parallel import Parallelism
from pipeline.training.phases import PhaseConfig
from pipeline.training.trainer_config import TrainerConfig
from sweettok import SweetTokConfig
from sweettok.errors import SweetTokError
from sweettok.strict_config import StrictConfig


class WorkersConfig(StrictConfig):
    """The training workers and what happens when one is lost.

    Attributes:
        num_workers: Data-parallel workers.
        num_cpus_per_worker: CPU cores (and torch threads) of each.
        use_gpu: One GPU per worker; null takes GPUs if the cluster has any.
        parallelism: "ddp": every worker holds the whole model; "fsdp": parameters, gradients and
            moments are split among them.
        max_failures: How often a failed group of workers is restarted from its last checkpoint.
    """

    num_workers: int = pydantic.Field(default=1, ge=1)
    num_cpus_per_worker: int = pydantic.Field(default=1, ge=1)
    use_gpu: bool | None = None
    parallelism: Parallelism = "ddp"
    max_failures: int = pydantic.Field(default=3, ge=0)


class RunConfig(StrictConfig):
    """Where the run keeps its checkpoints and its result.

    Attributes:
        storage_path: Directory (or URI) that all nodes reach; checkpoints go to `<path>/<name>`.
        name: Name of the run. The same path and name continue an interrupted run.
        output: Directory of the finished tokenizer, on the machine that starts the job.
        keep: Which weights become the output: those of the last step, or those with the best
            `evaluation.best_metric`. What was best before a discriminator took part does not
            compete with what comes after: it lowers PSNR and SSIM for what they do not measure.
        checkpoint_every_steps: Steps between checkpoints; the end of a phase makes one as well.
        keep_checkpoints: How many of them to keep.
        log_every_steps: Steps between log lines.
        tensorboard: Directory for TensorBoard, on the first worker's machine; null writes none.
    """

    storage_path: str
    name: str = pydantic.Field(default="tokenizer", pattern=r"^[A-Za-z0-9._-]+$")
    output: str
    keep: Literal["last", "best"] = "last"
    checkpoint_every_steps: int = pydantic.Field(default=1000, ge=1)
    keep_checkpoints: int = pydantic.Field(default=2, ge=1)
    log_every_steps: int = pydantic.Field(default=50, ge=1)
    tensorboard: str | None = None


class TrainConfig(StrictConfig):
    """One run of `jobs/train_tokenizer.py`.

    Attributes:
        lexicon: Name of a shipped lexicon or directory of one; if it has more words than the model
            asks for, the most frequent ones are taken.
        model: Sizes of the tokenizer.
        data, training, workers, run, cluster: Settings of the parts.
        evaluation: When the held-out clips of `data.validation` are looked at; null: never.
    """

    lexicon: str = "small"
    model: SweetTokConfig
    data: DataConfig
    training: TrainerConfig
    evaluation: EvaluationConfig | None = None
    workers: WorkersConfig = WorkersConfig()
    run: RunConfig
    cluster: ClusterConfig = ClusterConfig()

    @pydantic.model_validator(mode="after")
    def _parts_fit(self) -> TrainConfig:
        for name, phase in self.training.phases.items():
            try:
                phase.geometry(self.model.geometry)
            except SweetTokError as error:
                raise ValueError(f"training.phases.{name}: {error}") from None
            if self.data.cache is None:
                self._check_streamed(name, phase)
        if self.workers.parallelism == "fsdp":
            self._check_sharding()
        if self.run.keep == "best" and self.evaluation is None:
            raise ValueError(
                "run.keep is 'best', which needs an evaluation; set one or keep 'last'"
            )
        if self.evaluation is not None:
            self._check_evaluation(self.evaluation)
        return self

    def _check_streamed(self, name: str, phase: PhaseConfig) -> None:
        own_frames = self.model.geometry.num_frames
        if phase.num_frames is not None and phase.num_frames > own_frames:
            raise ValueError(
                f"training.phases.{name}.num_frames is {phase.num_frames}, but clips straight from "
                f"videos have at most the model's {own_frames} frames; set data.cache"
            )
        if phase.time_limit_s is not None and self.workers.num_workers > 1:
            raise ValueError(
                f"training.phases.{name}.time_limit_s with {self.workers.num_workers} workers "
                "needs data.cache: workers that read straight from videos must know how many "
                "clips they will read; set data.cache, or the limit to null"
            )

    def _check_sharding(self) -> None:
        for name, value, refused in (
            ("training.optimizer.kind", self.training.optimizer.kind, "muon"),
            ("model.quantizer.codebook", self.model.quantizer.codebook, "learned"),
        ):
            if value == refused:
                raise ValueError(
                    f"workers.parallelism is 'fsdp', but {name} is {refused!r}, which needs whole "
                    "matrices on every worker; change it, or use 'ddp'"
                )

    def _check_evaluation(self, evaluation: EvaluationConfig) -> None:
        if self.data.validation is None:
            raise ValueError(
                "evaluation needs held-out clips; set data.validation, or evaluation to null"
            )
        if evaluation.best_metric == "perceptual" and self.training.perceptual.network == "none":
            raise ValueError("evaluation.best_metric is 'perceptual', but there is no network")
        if evaluation.best_metric == "image_psnr_db" and not self.training.trains_images:
            raise ValueError("evaluation.best_metric is 'image_psnr_db', but no phase has images")

    @property
    def recipe(self) -> dict[str, object]:
        """The parts that decide the trained weights; two runs with one recipe are one run.

        Where frames are kept decides nothing; how many workers there are does: they share a step.
        """
        mapping = self.to_mapping()
        parts = {name: mapping[name] for name in ("lexicon", "model", "training", "evaluation")}
        data = {key: value for key, value in mapping["data"].items() if key != "prefetch_batches"}
        data["cache"] = self.data.cache is not None
        if self.data.validation is not None:
            data["validation"] = {
                key: value for key, value in mapping["data"]["validation"].items() if key != "cache"
            }
        return parts | {
            "data": data,
            "order_of_phases": list(self.training.phases),
            "num_workers": self.workers.num_workers,
            "keep": self.run.keep,
        }
