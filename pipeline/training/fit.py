"""The driver's part of training: data in, Ray Train in the middle, a saved tokenizer out."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import fsspec
import ray
import ray.train
import ray.train.torch

from pipeline.cluster import check_room, connect, has_gpu
from pipeline.engine import as_pipeline_error
from pipeline.errors import PipelineError
from pipeline.storage import is_local, local_path, normalized_uri
from pipeline.training.config import TrainConfig
from pipeline.training.interruptible import fit_interruptibly
from pipeline.training.loop import load_lexicon, train_worker
from pipeline.training.prepared_data import PreparedData, SplitUnits, prepare_data, split_units
from pipeline.training.run_log import METRICS_FILE
from pipeline.training.state import (
    BEST_DIRECTORY,
    PROGRESS_FILE,
    TOKENIZER_DIRECTORY,
    TrainingProgress,
    recipe_difference,
)
from pipeline.whole_files import new_directory
from sweettok.losses.perceptual import create_perceptual_distance
from sweettok.model import check_lexicon
from sweettok.persistence import MANIFEST_FILE, read_manifest

logger = logging.getLogger(__name__)

RECIPE_FILE = "training_recipe.json"


@dataclass(frozen=True)
class FitResult:
    """What a training run gave.

    Attributes:
        output: Directory of the tokenizer.
        fingerprint: Its fingerprint.
        num_steps: Optimiser steps of the run; None if the tokenizer was there before.
        kept_step: The step whose weights it has, where they are not the last ones.
    """

    output: Path
    fingerprint: str
    num_steps: int | None
    kept_step: int | None = None


def fit_tokenizer(config: TrainConfig) -> FitResult:
    """Trains a tokenizer, or continues an interrupted run, or finds it finished.

    Raises:
        PipelineError: Training failed for good, or `run.output` holds something else.
        LexiconError: The lexicon is unknown or not what the model asks for.
        CheckpointError: The weights of the perceptual network cannot be read.
    """
    output = Path(config.run.output)
    finished = _finished(output, config)
    if finished is not None:
        return finished
    checkpoints = _found_checkpoints(config)
    for where, progress in checkpoints.items():
        progress.check_same_run(config.recipe, progress.frames, where)
    _check_parts(config)
    connect(config.cluster)
    workers = config.workers
    decode_cpus = 0 if config.data.cache is not None else 1
    check_room(
        workers.num_workers * workers.num_cpus_per_worker + decode_cpus,
        "lower workers.num_workers or workers.num_cpus_per_worker, or set data.cache so that "
        "training needs no core for decoding",
    )
    if workers.use_gpu:
        check_room(
            workers.num_workers,
            "lower workers.num_workers, or set workers.use_gpu to null (GPUs if there are any)",
            resource="GPU",
        )
    units = split_units(config.data)
    own = config.model.geometry
    phases = [phase.geometry(own) for phase in config.training.phases.values()]
    data = prepare_data(config.data, units, own, phases)
    for where, progress in checkpoints.items():
        progress.check_same_run(config.recipe, data.fingerprints, where)
    try:
        result = fit_interruptibly(_create_trainer(config, data, units))
    except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
        raise PipelineError(f"training failed: {as_pipeline_error(error)}") from error
    if result.checkpoint is None:
        raise PipelineError(
            f"training ended without a checkpoint; see the logs under {config.run.storage_path}"
        )
    with result.checkpoint.as_directory() as directory:
        progress = TrainingProgress.read(Path(directory))
        _install(Path(directory), output, config)
    return FitResult(
        output,
        read_manifest(output)["fingerprint"],
        progress.position.num_steps,
        progress.best_step if config.run.keep == "best" else None,
    )


def _check_parts(config: TrainConfig) -> None:
    """Finds here what every worker would stumble over, after a minute and again at each retry.

    Raises:
        LexiconError: The lexicon is unknown or not what the model asks for.
        CheckpointError: The weights of the perceptual network cannot be read.
        PipelineError: `run.storage_path` is a file.
    """
    check_lexicon(config.model, load_lexicon(config))
    create_perceptual_distance(config.training.perceptual)
    storage = config.run.storage_path
    if is_local(storage) and Path(local_path(storage)).is_file():
        raise PipelineError(f"run.storage_path: {storage} is a file; give a directory")


def _create_trainer(
    config: TrainConfig, data: PreparedData, units: SplitUnits
) -> ray.train.torch.TorchTrainer:
    workers = config.workers
    use_gpu = has_gpu() if workers.use_gpu is None else workers.use_gpu
    return ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"config": config.to_mapping(), "data": data.to_mapping()},
        datasets=data.ray_datasets(units),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": workers.num_cpus_per_worker}
            | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            storage_path=normalized_uri(config.run.storage_path),
            name=config.run.name,
            failure_config=ray.train.FailureConfig(
                max_failures=workers.max_failures, controller_failure_limit=workers.max_failures
            ),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.run.keep_checkpoints),
        ),
    )


def _finished(output: Path, config: TrainConfig) -> FitResult | None:
    if not (output / MANIFEST_FILE).exists():
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise PipelineError(
                f"{output}: is there already and holds no tokenizer of this job; choose another "
                "run.output or an empty directory"
            )
        return None
    recipe_file = output / RECIPE_FILE
    if not recipe_file.exists():
        raise PipelineError(
            f"{output}: holds a tokenizer that this job did not train; choose another run.output"
        )
    recipe = json.loads(recipe_file.read_text("utf-8"))
    if recipe != config.recipe:
        raise PipelineError(recipe_difference(recipe, config.recipe, str(output)))
    return FitResult(output, read_manifest(output)["fingerprint"], None)


def _found_checkpoints(config: TrainConfig) -> dict[str, TrainingProgress]:
    """How far the run's checkpoints are, by their places; a half-copied one is none."""
    root = f"{normalized_uri(config.run.storage_path)}/{config.run.name}"
    filesystem, path = fsspec.url_to_fs(root)
    found = {}
    for file in filesystem.glob(f"{path}/checkpoint_*/{PROGRESS_FILE}"):
        with contextlib.suppress(ValueError, FileNotFoundError):
            found[file.rpartition("/")[0]] = TrainingProgress.parse(filesystem.cat_file(file))
    return found


def _install(checkpoint: Path, output: Path, config: TrainConfig) -> None:
    """Puts the tokenizer in place in one step: a directory that is there is complete."""
    kept = BEST_DIRECTORY if config.run.keep == "best" else TOKENIZER_DIRECTORY
    with new_directory(output) as partial:
        shutil.copytree(checkpoint / kept, partial)
        shutil.copyfile(checkpoint / METRICS_FILE, partial / METRICS_FILE)
        (partial / RECIPE_FILE).write_text(json.dumps(config.recipe, indent=2) + "\n", "utf-8")
        (partial / "config.yaml").write_text(config.to_yaml(), "utf-8")
