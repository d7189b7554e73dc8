"""What every training worker runs: restore, step, log, evaluate, checkpoint.

Ray Train starts `train_worker` in each worker process and restarts all of them from the last
checkpoint when one is lost.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.training.config import TrainConfig
from pipeline.training.evaluation import evaluate, reconstruction_pictures
from pipeline.training.parallel import num_workers, worker_rank
from pipeline.training.prepared_data import PreparedData
from pipeline.training.run_log import RunLog
from pipeline.training.state import (
    BEST_DIRECTORY,
    TOKENIZER_DIRECTORY,
    TrainingProgress,
    load_checkpoint,
    save_checkpoint,
    training_tensors,
)
from pipeline.training.trainer import StepReport, Trainer
from pipeline.training.usage import UsageMeter, describe_usage, usage_scalars
from sweettok import Lexicon, SweetTok

logger = logging.getLogger(__name__)


def train_worker(values: dict[str, Any]) -> None:
    """Trains until all phases are over.

    Args:
        values: "config", a `TrainConfig`, and "data", its `PreparedData`, as plain values.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as directory:
        config = TrainConfig.from_mapping(values["config"])
        run = _TrainingRun(config, PreparedData.from_mapping(values["data"]), Path(directory))
        run.train()


class _TrainingRun:
    """One worker's trainer, and what is done around its steps.

    The directory holds the first worker's log and best weights between checkpoints.
    """

    def __init__(self, config: TrainConfig, data: PreparedData, directory: Path) -> None:
        self.config = config
        self.data = data
        self.directory = directory
        device = ray.train.torch.get_device()
        assert isinstance(device, torch.device)
        if device.type == "cpu":
            torch.set_num_threads(config.workers.num_cpus_per_worker)
        torch.manual_seed(config.training.seed)
        lexicon = load_lexicon(config)
        self.trainer = Trainer(
            SweetTok(config.model, lexicon),
            config.training,
            device=device,
            parallelism=config.workers.parallelism,
        )
        self.kept = SweetTok(config.model, lexicon).to(device).eval()
        self.meter = UsageMeter(
            config.model.num_spatial_words, config.model.num_temporal_words, device
        )
        torch.manual_seed(_seed_of(config.training.seed, worker_rank()))
        self.log = self._restore()
        self.held_out = data.evaluation_clips(config.model.geometry) if config.evaluation else None
        self._logged_s, self._logged_clips = time.monotonic(), 0

    def train(self) -> None:
        """Steps until the end; everything that happens every so many steps happens here."""
        every = self.config.run
        for report in self.trainer.run(self._batches):
            self._count(report)
            num_steps = report.position.num_steps
            is_end_of_phase = self.trainer.position.phase_index != report.position.phase_index
            if num_steps % every.log_every_steps == 0 or is_end_of_phase:
                self._log(report)
            evaluation = self.config.evaluation
            if evaluation is not None and (
                num_steps % evaluation.every_steps == 0 or is_end_of_phase
            ):
                self._evaluate(report)
            if num_steps % every.checkpoint_every_steps == 0 or is_end_of_phase:
                self._checkpoint()
        if self.log is not None:
            self.log.close()

    def _restore(self) -> RunLog | None:
        """Goes on from the last checkpoint, if there is one; the first worker's log."""
        self.progress = TrainingProgress(
            self.trainer.position, self.config.recipe, num_workers=num_workers()
        )
        restored = ray.train.get_checkpoint()
        if restored is None:
            return self._create_log(None)
        with restored.as_directory() as path:
            found = load_checkpoint(Path(path), self.trainer, self.config.recipe)
            log = self._create_log(Path(path))
            best = Path(path) / BEST_DIRECTORY
            if best.exists() and worker_rank() == 0:
                shutil.copytree(best, self.directory / BEST_DIRECTORY)
        self.progress = dataclasses.replace(
            found, num_restores=found.num_restores + 1, num_workers=num_workers()
        )
        if found.num_workers != num_workers():
            self._say(
                f"the checkpoint is of {found.num_workers} workers, now there are {num_workers()}: "
                "the run goes on, but not as it would have"
            )
        self._say(f"continuing at step {found.position.num_steps}")
        return log

    def _create_log(self, restored: Path | None) -> RunLog | None:
        if worker_rank() != 0:
            return None
        return RunLog(
            self.directory,
            tensorboard=self.config.run.tensorboard,
            restored=restored,
            num_steps=self.trainer.position.num_steps,
        )

    def _batches(self, trainer: Trainer) -> Iterator[UInt8[Tensor, "b t h w c"]]:
        """This worker's batches of the current phase, from where it stands."""
        phase, position = trainer.phase, trainer.position
        is_cached = self.config.data.cache is not None
        source = self.data.clip_source(
            phase.geometry(self.config.model.geometry),
            seed=_seed_of(self.config.training.seed, position.phase_index),
            batch_size=phase.batch_size_per_worker,
            rank=worker_rank(),
            world_size=num_workers(),
            shard=None if is_cached else ray.train.get_dataset_shard("train"),
        )
        return source.batches(position.phase_step * phase.accumulation_steps)

    def _count(self, report: StepReport) -> None:
        for tokens in report.tokens:
            self.meter.add(tokens)
            self._logged_clips += len(tokens) * num_workers()

    def _log(self, report: StepReport) -> None:
        """One line; all workers' use of the codebooks since the last one.

        Raises:
            PipelineError: The loss is no longer a number.
        """
        statistics = dict(zip(("spatial", "temporal"), self.meter.read(), strict=True))
        loss = report.losses["total"].item()
        if not math.isfinite(loss):
            raise PipelineError(
                f"the loss is {loss} after {report.position.num_steps} steps; lower "
                "training.optimizer.learning_rate or gradient_clip_norm, or lengthen the warm-up"
            )
        now_s = time.monotonic()
        clips_per_s = self._logged_clips / (now_s - self._logged_s)
        self._logged_s, self._logged_clips = now_s, 0
        if self.log is None:
            return
        values = {f"loss/{name}": value.item() for name, value in report.losses.items()}
        values |= {
            "psnr_db": report.psnr_db.item(),
            "gradient_norm": report.gradient_norm.item(),
            "learning_rate": report.rate * self.config.training.optimizer.learning_rate,
            "clips_per_s": clips_per_s,
        }
        for name, value in statistics.items():
            values |= usage_scalars(value, name)
        self.log.scalars("train", report.phase, report.position.num_steps, values)
        words = ", ".join(describe_usage(value, name) for name, value in statistics.items())
        self._say(
            f"{report.phase} {report.position.phase_step}: loss {loss:.4f}, "
            f"PSNR {values['psnr_db']:.2f} dB, {words}, rate {report.rate:.0%} of peak, "
            f"{clips_per_s:.1f} clips/s"
        )

    def _evaluate(self, report: StepReport) -> None:
        """Looks at the held-out clips and keeps the weights if none were better."""
        assert self.config.evaluation is not None
        settings, step = self.config.evaluation, report.position.num_steps
        self.trainer.copy_weights_to(self.kept)
        result = evaluate(
            self.kept,
            self._held_out_batches(settings.batch_size),
            device=self.trainer.device,
            perceptual=self.trainer.perceptual,
            with_images=self.config.training.trains_images,
        )
        score = result.score(settings.best_metric)
        if self.progress.best_score is None or score > self.progress.best_score:
            self.progress = dataclasses.replace(self.progress, best_score=score, best_step=step)
            if worker_rank() == 0:
                self.kept.save_pretrained(self.directory / BEST_DIRECTORY)
        if self.log is None or self.held_out is None:
            return
        self._say(f"held-out clips after {step} steps: {result.describe()}")
        self.log.scalars("evaluation", report.phase, step, result.scalars())
        shown = self.held_out[: settings.shown_clips]
        if len(shown):
            pictures = reconstruction_pictures(self.kept, shown, self.trainer.device)
            self.log.pictures(step, pictures)

    def _held_out_batches(self, batch_size: int) -> Iterator[Tensor]:
        """This worker's part of the held-out clips."""
        assert self.held_out is not None
        bounds = np.linspace(0, len(self.held_out), num_workers() + 1).round().astype(int)
        first, end = bounds[worker_rank()], bounds[worker_rank() + 1]
        for start in range(first, end, batch_size):
            yield self.held_out[start : min(start + batch_size, end)]

    def _checkpoint(self) -> None:
        """Reports to Ray Train; the first worker's files are what is kept."""
        self.trainer.copy_weights_to(self.kept)
        tensors = training_tensors(self.trainer)
        self.progress = dataclasses.replace(self.progress, position=self.trainer.position)
        metrics = {"step": self.trainer.position.num_steps}
        if self.log is None:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            self.kept.save_pretrained(directory / TOKENIZER_DIRECTORY)
            best = self.directory / BEST_DIRECTORY
            if best.exists():
                shutil.copytree(best, directory / BEST_DIRECTORY)
            self.log.copy_to(directory)
            save_checkpoint(directory, tensors, self.progress)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint(name))

    def _say(self, message: str) -> None:
        if worker_rank() == 0:
            logger.info(message)


def load_lexicon(config: TrainConfig) -> Lexicon:
    """The run's lexicon, cut to the numbers of words that the model asks for."""
    lexicon = Lexicon.load(config.lexicon)
    wanted = (config.model.num_spatial_words, config.model.num_temporal_words)
    if wanted == (lexicon.spatial.num_words, lexicon.temporal.num_words):
        return lexicon
    return lexicon.subset(*wanted)


def _seed_of(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
