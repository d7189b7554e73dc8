"""What every training worker runs: restore, step, log, evaluate, checkpoint.

Ray Train starts `train_worker` in each worker process and restarts all of them from the last
checkpoint when one is lost.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.train
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.training.config import TrainConfig
from pipeline.training.evaluation import evaluate, reconstruction_pictures
from pipeline.training.parallel import num_workers, share_of_worker, worker_rank
from pipeline.training.prepared_data import PreparedData
from pipeline.training.ray_run import worker_device
from pipeline.training.run_log import RunLog
from pipeline.training.seeds import seed_of
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
        device = worker_device(config.workers)
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
        self._is_finite = torch.ones((), dtype=torch.bool, device=device)
        torch.manual_seed(seed_of(config.training.seed, worker_rank()))
        self.log = self._restore()
        self.held_out = data.evaluation_clips(config.model.geometry) if config.evaluation else None
        self._logged_s, self._logged_clips = time.monotonic(), 0

    def train(self) -> None:
        """Steps until the end; everything that happens every so many steps happens here."""
        every = self.config.run
        for report in self.trainer.run(self._batches):
            self._count(report)
            is_checkpoint = self._is_due(every.checkpoint_every_steps, report)
            # A checkpoint begins a new count of words: what is lost with a run is counted again.
            if is_checkpoint or self._is_due(every.log_every_steps, report):
                self._log(report)
            evaluation = self.config.evaluation
            if evaluation is not None and self._is_due(evaluation.every_steps, report):
                self._evaluate(report)
            if is_checkpoint:
                self._checkpoint()
        if self.log is not None:
            self.log.close()

    def _is_due(self, every_steps: int, report: StepReport) -> bool:
        """Whether it is time for something: every so many steps and at the end of a phase."""
        is_end_of_phase = self.trainer.position.phase_index != report.position.phase_index
        return report.position.num_steps % every_steps == 0 or is_end_of_phase

    def _restore(self) -> RunLog | None:
        """Goes on from the last checkpoint, if there is one; the first worker's log."""
        frames = self.data.fingerprints
        self.progress = TrainingProgress(self.trainer.position, self.config.recipe, frames)
        restored = ray.train.get_checkpoint()
        if restored is None:
            return self._create_log(None)
        with restored.as_directory() as path:
            found = load_checkpoint(Path(path), self.trainer, self.config.recipe, frames)
            log = self._create_log(Path(path))
            best = Path(path) / BEST_DIRECTORY
            if best.exists() and worker_rank() == 0:
                shutil.copytree(best, self.directory / BEST_DIRECTORY)
        self.progress = dataclasses.replace(found, num_restores=found.num_restores + 1)
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
            seed=seed_of(self.config.training.seed, position.phase_index),
            batch_size=phase.batch_size_per_worker,
            rank=worker_rank(),
            world_size=num_workers(),
            shard=None if is_cached else ray.train.get_dataset_shard("train"),
        )
        return source.batches(
            position.phase_step * phase.accumulation_steps,
            (phase.num_steps - position.phase_step) * phase.accumulation_steps,
        )

    def _count(self, report: StepReport) -> None:
        for tokens in report.tokens:
            self.meter.add(tokens)
            self._logged_clips += len(tokens) * num_workers()
        self._is_finite &= (report.losses["total"] + report.gradient_norm).isfinite()

    def _log(self, report: StepReport) -> None:
        """One line; all workers' use of the codebooks since the last one."""
        self._check_finite(report)
        statistics = dict(zip(("spatial", "temporal"), self.meter.read(), strict=True))
        loss = report.losses["total"].item()
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

    def _check_finite(self, report: StepReport) -> None:
        """Lets no step go on to a checkpoint after a loss or gradient that is no number.

        Raises:
            PipelineError: There was one.
        """
        if not self._is_finite.item():
            raise PipelineError(
                "a loss or a gradient is no longer a number: after "
                f"{report.position.num_steps} steps the loss is {report.losses['total'].item():g} "
                f"and the gradient's norm {report.gradient_norm.item():g}; lower "
                "training.optimizer.learning_rate or gradient_clip_norm, or lengthen the warm-up"
            )

    def _evaluate(self, report: StepReport) -> None:
        """Looks at the held-out clips and keeps the weights if none were better."""
        assert self.config.evaluation is not None
        self._check_finite(report)
        settings, step = self.config.evaluation, report.position.num_steps
        self.trainer.copy_weights_to(self.kept)
        result = evaluate(
            self.kept,
            self._held_out_batches(settings.batch_size),
            device=self.trainer.device,
            perceptual=self.trainer.perceptual,
            with_images=self.config.training.trains_images,
        )
        self._keep_if_best(result.score(settings.best_metric), report)
        if self.log is None or self.held_out is None:
            return
        self._say(f"held-out clips after {step} steps: {result.describe()}")
        self.log.scalars("evaluation", report.phase, step, result.scalars())
        shown = self.held_out[: settings.shown_clips]
        if len(shown):
            pictures = reconstruction_pictures(self.kept, shown, self.trainer.device)
            self.log.pictures(step, pictures)

    def _keep_if_best(self, score: float, report: StepReport) -> None:
        """What was best before the discriminator took part is forgotten when it does."""
        found, position = self.progress, report.position
        settings = self.config.training.phases[report.phase].adversarial
        is_adversarial = settings is not None and settings.is_active_at(position.phase_step - 1)
        is_forgotten = is_adversarial and not found.best_is_adversarial
        if found.best_score is not None and not is_forgotten and score <= found.best_score:
            return
        self.progress = dataclasses.replace(
            found,
            best_score=score,
            best_step=position.num_steps,
            best_is_adversarial=is_adversarial,
        )
        if worker_rank() == 0:
            self.kept.save_pretrained(self.directory / BEST_DIRECTORY)

    def _held_out_batches(self, batch_size: int) -> Iterator[Tensor]:
        """This worker's part of the held-out clips."""
        assert self.held_out is not None
        share = share_of_worker(len(self.held_out))
        for start in share[::batch_size]:
            yield self.held_out[start : min(start + batch_size, share.stop)]

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
