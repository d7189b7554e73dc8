"""The driver's part of a generator's training: tokens in, Ray Train in the middle, a model out."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import fsspec
import ray.exceptions
import ray.train
import ray.train.torch

from pipeline.cluster import check_room, connect, has_gpu
from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError, PipelineError
from pipeline.generator.config import TrainGeneratorConfig
from pipeline.generator.data import TokenSource
from pipeline.generator.loop import train_worker
from pipeline.generator.model import TOKENIZER_DIRECTORY, VOCABULARY_FILE
from pipeline.generator.state import GENERATOR_DIRECTORY, PROGRESS_FILE, GeneratorProgress
from pipeline.setting_differences import setting_differences
from pipeline.storage import normalized_uri
from pipeline.training.interruptible import fit_interruptibly
from pipeline.training.run_log import METRICS_FILE
from pipeline.whole_files import new_directory
from pipeline.worker_errors import as_pipeline_error
from sweettok import SweetTok
from sweettok.errors import SweetTokError

logger = logging.getLogger(__name__)

RECIPE_FILE = "training_recipe.json"
SUMMARY_FILE = "training_summary.json"


@dataclass(frozen=True)
class GeneratorFit:
    """What a training run gave.

    Attributes:
        output: Directory of the generator.
        num_steps: Optimiser steps; None if it was trained before.
        unigram_nats: Entropy of the tokens by their frequencies alone, in nats per token.
        held_out_nats: Loss on the held-out clips at the end, in nats per token, by kind.
    """

    output: Path
    num_steps: int | None
    unigram_nats: dict[str, float]
    held_out_nats: dict[str, float]

    def lines(self) -> list[str]:
        """The result for people."""
        if self.num_steps is None:
            first = f"{self.output}: trained before, nothing to do"
        else:
            first = f"generator trained for {self.num_steps} steps: {self.output}"
        loss, unigram = self.held_out_nats.get("total"), self.unigram_nats["total"]
        if loss is None:
            return [first]
        second = f"{loss:.3f} nats per token; by the tokens' frequencies alone {unigram:.3f}"
        without = self.held_out_nats.get("total_without_class")
        if without is not None:
            second += f"; the same clips without their class {without:.3f}"
        return [first, second]


def fit_generator(config: TrainGeneratorConfig) -> GeneratorFit:
    """Trains a generator, or continues an interrupted run, or finds it finished.

    Raises:
        DatasetError: The token dataset cannot be read.
        PipelineError: Training failed for good, or `run.output` holds something else.
    """
    output = Path(config.run.output)
    finished = _finished(output, config)
    if finished is not None:
        return finished
    checkpoints = _found_checkpoints(config)
    for where, progress in checkpoints.items():
        progress.check_same_run(config.recipe, where)
    pinned = next((progress.version for progress in checkpoints.values()), None)
    source = TokenSource.open(config.data, pinned)
    # Too few clips are found here rather than by every worker.
    source.loader(config.training, config.data.order, 0, config.workers.num_workers)
    for where, progress in checkpoints.items():
        if progress.fingerprint != source.training.fingerprint:
            raise DatasetError(
                f"{where} belongs to a run that read other clips than "
                f"{source.training.uri} now has in version {source.training.version}"
            )
    unigram = source.unigram_entropies()
    logger.info(
        "%d clips of version %d, %d ids per sequence; by frequencies alone %.3f nats per token",
        source.training.num_samples,
        source.training.version,
        source.vocabulary.length,
        unigram["total"],
    )
    connect(config.cluster)
    workers = config.workers
    check_room(
        workers.num_workers * workers.num_cpus_per_worker,
        "lower workers.num_workers or workers.num_cpus_per_worker",
    )
    tokenizer = _tokenizer_of(config)
    try:
        result = fit_interruptibly(_create_trainer(config, source, tokenizer))
    except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
        raise PipelineError(f"training failed: {as_pipeline_error(error)}") from error
    if result.checkpoint is None:
        raise PipelineError(
            f"training ended without a checkpoint; see the logs under {config.run.storage_path}"
        )
    with result.checkpoint.as_directory() as directory:
        return _install(Path(directory), output, config, tokenizer, unigram)


def _create_trainer(
    config: TrainGeneratorConfig, source: TokenSource, tokenizer: Path | None
) -> ray.train.torch.TorchTrainer:
    workers = config.workers
    use_gpu = has_gpu() if workers.use_gpu is None else workers.use_gpu
    return ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={
            "config": config.placed(source.training.uri).to_mapping(),
            "recipe": config.recipe,
            "version": source.training.version,
            "tokenizer": str(tokenizer or ""),
        },
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


def _tokenizer_of(config: TrainGeneratorConfig) -> Path | None:
    """The tokenizer that the dataset carries; samples are shown only with it."""
    dataset = config.data.dataset
    try:
        found = TokenDataset.open(dataset.uri, storage=dataset.storage).tokenizer_files()
        SweetTok.from_pretrained(found)
        return found
    except (DatasetError, SweetTokError) as error:
        logger.warning("no pictures of samples: %s", error)
        return None


def _finished(output: Path, config: TrainGeneratorConfig) -> GeneratorFit | None:
    if not (output / VOCABULARY_FILE).exists():
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise PipelineError(
                f"{output}: is there already and holds no generator of this job; choose another "
                "run.output or an empty directory"
            )
        return None
    recipe_file = output / RECIPE_FILE
    if not recipe_file.exists():
        raise PipelineError(
            f"{output}: holds a generator that this job did not train; choose another run.output"
        )
    recipe = json.loads(recipe_file.read_text("utf-8"))
    if recipe != config.recipe:
        raise PipelineError(
            f"{output} belongs to a run with other settings:\n"
            f"{setting_differences(recipe, config.recipe)}\n"
            "choose another run.output, delete the old one, or restore the settings"
        )
    summary = json.loads((output / SUMMARY_FILE).read_text("utf-8"))
    return GeneratorFit(output, None, summary["unigram_nats"], summary["held_out_nats"])


def _found_checkpoints(config: TrainGeneratorConfig) -> dict[str, GeneratorProgress]:
    """How far the run's checkpoints are, by their places; a half-copied one is none."""
    root = f"{normalized_uri(config.run.storage_path)}/{config.run.name}"
    filesystem, path = fsspec.url_to_fs(root)
    found = {}
    for file in filesystem.glob(f"{path}/checkpoint_*/{PROGRESS_FILE}"):
        with contextlib.suppress(ValueError, FileNotFoundError):
            found[file.rpartition("/")[0]] = GeneratorProgress.parse(filesystem.cat_file(file))
    return found


def _install(
    checkpoint: Path,
    output: Path,
    config: TrainGeneratorConfig,
    tokenizer: Path | None,
    unigram: dict[str, float],
) -> GeneratorFit:
    """Puts the generator in place in one step: a directory that is there is complete."""
    progress = GeneratorProgress.parse((checkpoint / PROGRESS_FILE).read_bytes())
    fit = GeneratorFit(output, progress.num_steps, unigram, _last_evaluation(checkpoint))
    summary = {
        "num_steps": fit.num_steps,
        "unigram_nats": fit.unigram_nats,
        "held_out_nats": fit.held_out_nats,
        "dataset": config.data.dataset.uri,
        "version": progress.version,
    }
    with new_directory(output) as partial:
        shutil.copytree(checkpoint / GENERATOR_DIRECTORY, partial)
        if tokenizer is not None:
            shutil.copytree(tokenizer, partial / TOKENIZER_DIRECTORY)
        shutil.copyfile(checkpoint / METRICS_FILE, partial / METRICS_FILE)
        for name, values in ((RECIPE_FILE, config.recipe), (SUMMARY_FILE, summary)):
            (partial / name).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        (partial / "config.yaml").write_text(config.to_yaml(), "utf-8")
    return fit


def _last_evaluation(checkpoint: Path) -> dict[str, float]:
    lines = (checkpoint / METRICS_FILE).read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "evaluation"]
    if not rows:
        return {}
    return {
        name.removeprefix("loss/"): value
        for name, value in rows[-1].items()
        if name.startswith("loss/")
    }
