"""The driver's part of a generator's training: tokens in, Ray Train in the middle, a model out."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.cluster import connect
from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError, PipelineError
from pipeline.generator.comparison import ClipComparison
from pipeline.generator.config import TrainGeneratorConfig
from pipeline.generator.data import TokenSource
from pipeline.generator.loop import train_worker
from pipeline.generator.model import TOKENIZER_DIRECTORY, VOCABULARY_FILE
from pipeline.generator.state import (
    GENERATOR_DIRECTORY,
    PROGRESS_FILE,
    SAMPLES_FILE,
    GeneratorProgress,
)
from pipeline.training.ray_run import (
    check_storage,
    check_workers_fit,
    create_trainer,
    found_progress,
    last_checkpoint,
)
from pipeline.training.run_log import METRICS_FILE
from pipeline.training.run_recipe import is_finished, write_settings
from pipeline.whole_files import new_directory
from sweettok import SweetTok
from sweettok.errors import SweetTokError

logger = logging.getLogger(__name__)

SUMMARY_FILE = "training_summary.json"


@dataclass(frozen=True)
class GeneratorFit:
    """What a training run gave.

    Attributes:
        output: Directory of the generator.
        num_steps: Optimiser steps; None if it was trained before.
        unigram_nats: Entropy of the tokens by their frequencies alone, in nats per token.
        held_out_nats: Loss on the held-out clips at the end, in nats per token, by kind.
        comparison: How drawn clips differ from real ones at the end, by name.
    """

    output: Path
    num_steps: int | None
    unigram_nats: dict[str, float]
    held_out_nats: dict[str, float]
    comparison: dict[str, float] = field(default_factory=dict)

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
        compared = [f"{name} {value:.4g}" for name, value in self.comparison.items()]
        third = "drawn clips beside real ones: " + ", ".join(compared)
        return [first, second, *([third] if compared else [])]


def fit_generator(
    config: TrainGeneratorConfig, *, comparisons: Sequence[ClipComparison] = ()
) -> GeneratorFit:
    """Trains a generator, or continues an interrupted run, or finds it finished.

    Args:
        config: The run.
        comparisons: What compares drawn clips with real ones besides what
            `evaluation.comparison` names; needs that section, which says how many clips.

    Raises:
        DatasetError: The token dataset cannot be read.
        PipelineError: Training failed for good, or `run.output` holds something else.
    """
    output = Path(config.run.output)
    if is_finished(output, config.recipe, what="generator", mark=VOCABULARY_FILE):
        return _found_fit(output)
    source = _checked_source(config)
    unigram = source.unigram_entropies()
    logger.info(
        "%d clips of version %d, %d ids per sequence; by frequencies alone %.3f nats per token",
        source.training.num_samples,
        source.training.version,
        source.vocabulary.length,
        unigram["total"],
    )
    tokenizer = _tokenizer_of(config)
    all_comparisons = _comparisons(config, comparisons, tokenizer)
    connect(config.cluster)
    check_workers_fit(config.workers)
    trainer = create_trainer(
        train_worker,
        {
            "config": config.placed(source.training.uri).to_mapping(),
            "recipe": config.recipe,
            "version": source.training.version,
            "has_tokenizer": tokenizer is not None,
            "comparisons": all_comparisons,
        },
        config.workers,
        config.run,
    )
    with last_checkpoint(trainer, config.run).as_directory() as directory:
        return _install(Path(directory), output, config, tokenizer, unigram)


def _checked_source(config: TrainGeneratorConfig) -> TokenSource:
    """The run's tokens, at the version of its checkpoints; finds here what would stop its workers.

    Raises:
        DatasetError: The token dataset cannot be read, or has other clips than it had.
        PipelineError: There are checkpoints of another run, or too few clips for a step.
    """
    check_storage(config.run)
    checkpoints = found_progress(config.run, PROGRESS_FILE, GeneratorProgress.parse)
    for where, progress in checkpoints.items():
        progress.check_same_run(config.recipe, where)
    pinned = next((progress.version for progress in checkpoints.values()), None)
    source = TokenSource.open(config.data, pinned)
    source.loader(config.training, config.data.order, 0, config.workers.num_workers)
    for where, progress in checkpoints.items():
        if progress.fingerprint != source.training.fingerprint:
            raise DatasetError(
                f"{where} belongs to a run that read other clips than "
                f"{source.training.uri} now has in version {source.training.version}"
            )
    source.check_held_out_classes()
    return source


def _found_fit(output: Path) -> GeneratorFit:
    """What an earlier run has left."""
    summary = json.loads((output / SUMMARY_FILE).read_text("utf-8"))
    return GeneratorFit(
        output,
        None,
        summary["unigram_nats"],
        summary["held_out_nats"],
        summary.get("comparison", {}),
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


def _comparisons(
    config: TrainGeneratorConfig, given: Sequence[ClipComparison], tokenizer: Path | None
) -> list[ClipComparison]:
    """All comparisons of the run, created here so that what is wrong with them is found here.

    Raises:
        PipelineError: There is no tokenizer, or nothing says how many clips; or as
            `ComparisonConfig.own_comparisons`.
    """
    settings = None if config.evaluation is None else config.evaluation.comparison
    if settings is None:
        if given:
            raise PipelineError(
                "comparisons were given, but evaluation.comparison is null; set it, it says how "
                "many clips to compare"
            )
        return []
    if tokenizer is None:
        raise PipelineError(
            f"{config.data.dataset.uri}: carries no tokenizer that decodes samples, which "
            "evaluation.comparison needs; set it to null"
        )
    return [*settings.own_comparisons(), *given]


def _install(
    checkpoint: Path,
    output: Path,
    config: TrainGeneratorConfig,
    tokenizer: Path | None,
    unigram: dict[str, float],
) -> GeneratorFit:
    """Puts the generator in place in one step: a directory that is there is complete."""
    progress = GeneratorProgress.parse((checkpoint / PROGRESS_FILE).read_bytes())
    row = _last_evaluation(checkpoint)
    fit = GeneratorFit(
        output, progress.num_steps, unigram, _part(row, "loss/"), _part(row, "comparison/")
    )
    summary = {
        "num_steps": fit.num_steps,
        "unigram_nats": fit.unigram_nats,
        "held_out_nats": fit.held_out_nats,
        "comparison": fit.comparison,
        "dataset": config.data.dataset.uri,
        "version": progress.version,
    }
    with new_directory(output) as partial:
        shutil.copytree(checkpoint / GENERATOR_DIRECTORY, partial)
        if tokenizer is not None:
            shutil.copytree(tokenizer, partial / TOKENIZER_DIRECTORY)
        shutil.copyfile(checkpoint / METRICS_FILE, partial / METRICS_FILE)
        if (checkpoint / SAMPLES_FILE).exists():
            shutil.copyfile(checkpoint / SAMPLES_FILE, partial / SAMPLES_FILE)
        (partial / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
        write_settings(partial, config)
    return fit


def _last_evaluation(checkpoint: Path) -> dict[str, Any]:
    lines = (checkpoint / METRICS_FILE).read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "evaluation"]
    return rows[-1] if rows else {}


def _part(row: dict[str, Any], start: str) -> dict[str, float]:
    """The numbers whose names begin with `start`, without it."""
    return {
        name.removeprefix(start): value for name, value in row.items() if name.startswith(start)
    }
