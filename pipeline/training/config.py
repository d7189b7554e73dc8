"""Settings of one tokenizer training run; `configs/train_tiny.yaml` is a complete example."""

from __future__ import annotations

import pydantic

from pipeline.clips import ClipConfig
from pipeline.cluster import ClusterConfig
from pipeline.decoding.interface import DecodeConfig
from pipeline.listing import SourceConfig
from pipeline.preprocessing import PreprocessConfig
from pipeline.training.optimizer import OptimizerConfig
from sweettok import SweetTokConfig
from sweettok.strict_config import StrictConfig


class DataConfig(StrictConfig):
    """Where training clips come from.

    Attributes:
        source: Which videos.
        clips: How they are cut; a `hop_frames` below the clip's length gives overlapping clips.
        preprocess, decode: As for tokenizing.
        shuffle_buffer_clips: Clips that each worker mixes; the whole set if it is larger.
        keep_in_object_store: Decode once and keep all clips in Ray's object store (small sets);
            otherwise the videos are decoded anew in every epoch.
        horizontal_flip: Mirror every other clip, at random.
    """

    source: SourceConfig
    clips: ClipConfig = ClipConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    decode: DecodeConfig = DecodeConfig()
    shuffle_buffer_clips: int = pydantic.Field(default=512, ge=1)
    keep_in_object_store: bool = False
    horizontal_flip: bool = True


class LossConfig(StrictConfig):
    """Weights of the losses.

    Attributes:
        squared_error: Weight of the mean squared error over pixels in [-1, 1].
        absolute_error: Weight of the mean absolute error.
        quantizer: Weight of both quantisers' losses.
    """

    squared_error: float = pydantic.Field(default=1.0, ge=0)
    absolute_error: float = pydantic.Field(default=0.0, ge=0)
    quantizer: float = pydantic.Field(default=0.1, ge=0)


class ScheduleConfig(StrictConfig):
    """How long to train.

    Attributes:
        num_steps: Optimiser steps of the run.
        time_limit_s: Stop after so many seconds of training even if steps remain; the learning
            rate follows whichever of the two is further on. Null: no limit.
        batch_size_per_worker: Clips per step and worker.
        seed: Seed of weights, shuffling and augmentation.
    """

    num_steps: int = pydantic.Field(ge=1)
    time_limit_s: float | None = pydantic.Field(default=None, gt=0)
    batch_size_per_worker: int = pydantic.Field(default=8, ge=1)
    seed: int = 0


class WorkersConfig(StrictConfig):
    """The training workers and what happens when one is lost.

    Attributes:
        num_workers: Data-parallel workers.
        num_cpus_per_worker: CPU cores (and torch threads) of each.
        use_gpu: One GPU per worker; null takes GPUs if the cluster has any.
        max_failures: How often a failed group of workers is restarted from its last checkpoint.
    """

    num_workers: int = pydantic.Field(default=1, ge=1)
    num_cpus_per_worker: int = pydantic.Field(default=1, ge=1)
    use_gpu: bool | None = None
    max_failures: int = pydantic.Field(default=3, ge=0)


class RunConfig(StrictConfig):
    """Where the run keeps its checkpoints and its result.

    Attributes:
        storage_path: Directory (or URI) that all nodes reach; checkpoints go to `<path>/<name>`.
        name: Name of the run. The same path and name continue an interrupted run.
        output: Directory of the finished tokenizer, on the machine that starts the job.
        checkpoint_every_steps: Steps between checkpoints.
        keep_checkpoints: How many of them to keep.
        log_every_steps: Steps between log lines.
    """

    storage_path: str
    name: str = pydantic.Field(default="tokenizer", pattern=r"^[A-Za-z0-9._-]+$")
    output: str
    checkpoint_every_steps: int = pydantic.Field(default=1000, ge=1)
    keep_checkpoints: int = pydantic.Field(default=2, ge=1)
    log_every_steps: int = pydantic.Field(default=50, ge=1)


class TrainConfig(StrictConfig):
    """One run of `jobs/train_tokenizer.py`.

    Attributes:
        lexicon: Name of a shipped lexicon or directory of one; if it has more words than the model
            asks for, the most frequent ones are taken.
        model: Sizes of the tokenizer.
        data, optimizer, loss, schedule, workers, run, cluster: Settings of the parts.
    """

    lexicon: str = "small"
    model: SweetTokConfig
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    schedule: ScheduleConfig
    workers: WorkersConfig = WorkersConfig()
    run: RunConfig
    cluster: ClusterConfig = ClusterConfig()

    @property
    def recipe(self) -> dict[str, object]:
        """The parts that decide the trained weights; two runs with one recipe are one run."""
        mapping = self.to_mapping()
        return {
            name: mapping[name]
            for name in ("lexicon", "model", "data", "optimizer", "loss", "schedule")
        }
