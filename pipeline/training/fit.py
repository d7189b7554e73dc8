"""The driver's part of training: data in, Ray Train in the middle, a saved tokenizer out."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster import connect
from pipeline.training.config import TrainConfig
from pipeline.training.loop import load_lexicon, train_worker
from pipeline.training.prepared_data import prepare_data, split_units
from pipeline.training.ray_run import (
    check_storage,
    check_workers_fit,
    create_trainer,
    found_progress,
    last_checkpoint,
)
from pipeline.training.run_log import METRICS_FILE
from pipeline.training.run_recipe import is_finished, write_settings
from pipeline.training.state import (
    BEST_DIRECTORY,
    PROGRESS_FILE,
    TOKENIZER_DIRECTORY,
    TrainingProgress,
)
from pipeline.whole_files import new_directory
from sweettok.losses.perceptual import create_perceptual_distance
from sweettok.model import check_lexicon
from sweettok.tokenizer_manifest import MANIFEST_FILE, read_manifest

logger = logging.getLogger(__name__)


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
    if is_finished(output, config.recipe, what="tokenizer", mark=MANIFEST_FILE):
        return FitResult(output, read_manifest(output)["fingerprint"], None)
    checkpoints = found_progress(config.run, PROGRESS_FILE, TrainingProgress.parse)
    for where, progress in checkpoints.items():
        progress.check_same_run(config.recipe, progress.frames, where)
    _check_parts(config)
    connect(config.cluster)
    check_workers_fit(
        config.workers,
        num_other_cpus=0 if config.data.cache is not None else 1,
        otherwise=", or set data.cache so that training needs no core for decoding",
    )
    units = split_units(config.data)
    own = config.model.geometry
    phases = [phase.geometry(own) for phase in config.training.phases.values()]
    data = prepare_data(config.data, units, own, phases)
    for where, progress in checkpoints.items():
        progress.check_same_run(config.recipe, data.fingerprints, where)
    trainer = create_trainer(
        train_worker,
        {"config": config.to_mapping(), "data": data.to_mapping()},
        config.workers,
        config.run,
        data.ray_datasets(units),
    )
    with last_checkpoint(trainer, config.run).as_directory() as directory:
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
    check_storage(config.run)


def _install(checkpoint: Path, output: Path, config: TrainConfig) -> None:
    """Puts the tokenizer in place in one step: a directory that is there is complete."""
    kept = BEST_DIRECTORY if config.run.keep == "best" else TOKENIZER_DIRECTORY
    with new_directory(output) as partial:
        shutil.copytree(checkpoint / kept, partial)
        shutil.copyfile(checkpoint / METRICS_FILE, partial / METRICS_FILE)
        write_settings(partial, config)
