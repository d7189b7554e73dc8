"""What every training worker runs: restore, step, log, checkpoint.

Ray Train starts `train_worker` in each worker process and restarts all of them from the last
checkpoint when one is lost.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pipeline.training.clip_stream import training_batches
from pipeline.training.config import LossConfig, TrainConfig
from pipeline.training.optimizer import ModelOptimizer, rate_at
from pipeline.training.state import TrainingProgress, load_checkpoint, save_checkpoint
from sweettok import Lexicon, SweetTok, pixels_to_video
from sweettok.metrics import codebook_usage, psnr_db
from sweettok.model import SweetTokOutput

logger = logging.getLogger(__name__)


def train_worker(values: dict[str, Any]) -> None:
    """Trains until the schedule ends; `values` is a `TrainConfig` as plain values."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = _TrainingRun(TrainConfig.from_mapping(values))
    for pixels in run.batches():
        run.step(pixels)
        if run.is_time_to_checkpoint():
            run.checkpoint()


class _TrainingRun:
    """One worker's model, optimiser and counters."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.device = ray.train.torch.get_device()
        if self.device.type == "cpu":
            torch.set_num_threads(config.workers.num_cpus_per_worker)
        torch.manual_seed(config.schedule.seed)
        self.model = SweetTok(config.model, load_lexicon(config)).to(self.device)
        self.optimizer = ModelOptimizer(self.model, config.optimizer)
        self.progress = TrainingProgress(0, 0.0, 0, config.recipe)
        restored = ray.train.get_checkpoint()
        if restored is not None:
            with restored.as_directory() as directory:
                found = load_checkpoint(Path(directory), self.model, self.optimizer, config.recipe)
            self.progress = dataclasses.replace(found, num_restores=found.num_restores + 1)
            self._log(f"continuing at step {self.progress.step}")
        self.model.train()
        self.parallel_model = ray.train.torch.prepare_model(self.model)
        self.num_steps = self.progress.step
        self.epoch = self.progress.epoch
        self._started_s = time.monotonic()
        self._logged_s, self._logged_step = self._started_s, self.num_steps
        self.fraction_done = self._measure_fraction_done()

    def batches(self) -> Iterator[Tensor]:
        """Batches until the schedule ends, epoch after epoch."""
        shard = ray.train.get_dataset_shard("train")
        while self.fraction_done < 1:
            self.epoch += 1
            seed = self._epoch_seed()
            num_batches = 0
            for pixels in training_batches(
                shard,
                self.config.data,
                batch_size=self.config.schedule.batch_size_per_worker,
                seed=seed,
            ):
                num_batches += 1
                yield pixels
                if self.fraction_done >= 1:
                    return
            if not num_batches:
                raise RuntimeError("this worker got no training clip; use fewer workers")

    def _epoch_seed(self) -> int:
        parts = (
            self.config.schedule.seed,
            self.epoch,
            ray.train.get_context().get_world_rank(),
        )
        return int(np.random.SeedSequence(parts).generate_state(1)[0])

    def step(self, pixels: Tensor) -> None:
        """One optimiser step on uint8 clips [b, t, h, w, c]."""
        video = pixels_to_video(pixels.to(self.device, non_blocking=True))
        rate = rate_at(self.config.optimizer, self.num_steps, self.fraction_done)
        output = self.parallel_model(video)
        loss = training_loss(video, output, self.config.loss)
        self.optimizer.step(loss, rate=rate)
        self.num_steps += 1
        self.fraction_done = self._measure_fraction_done()
        if self.num_steps % self.config.run.log_every_steps == 0:
            self._log(self._describe(video, output, loss, rate))

    def _measure_fraction_done(self) -> float:
        """How much of the schedule is over; the run ends at 1.

        Measured once a step: with a time limit, every question asked of the clock would get another
        answer, and the end could fall between the last checkpoint and the end of the loop.
        """
        schedule = self.config.schedule
        by_steps = self.num_steps / schedule.num_steps
        if schedule.time_limit_s is None:
            return by_steps
        return max(by_steps, self._agreed_elapsed_s() / schedule.time_limit_s)

    def is_time_to_checkpoint(self) -> bool:
        """Every so many steps, and at the end."""
        return (
            self.num_steps % self.config.run.checkpoint_every_steps == 0 or self.fraction_done >= 1
        )

    def checkpoint(self) -> None:
        """Reports to Ray Train; the first worker's state is what is kept."""
        metrics = {"step": self.num_steps, "fraction_done": self.fraction_done}
        if ray.train.get_context().get_world_rank() != 0:
            ray.train.report(metrics)
            return
        progress = dataclasses.replace(
            self.progress, step=self.num_steps, elapsed_s=self._elapsed_s(), epoch=self.epoch
        )
        with tempfile.TemporaryDirectory() as directory:
            save_checkpoint(Path(directory), self.model, self.optimizer, progress)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint(directory))

    def _elapsed_s(self) -> float:
        return self.progress.elapsed_s + time.monotonic() - self._started_s

    def _agreed_elapsed_s(self) -> float:
        """The first worker's clock, so that all workers stop at the same step."""
        if ray.train.get_context().get_world_size() == 1:
            return self._elapsed_s()
        clock = torch.tensor([self._elapsed_s()], device=self.device)
        torch.distributed.broadcast(clock, src=0)
        return clock.item()

    def _describe(self, video: Tensor, output: SweetTokOutput, loss: Tensor, rate: float) -> str:
        now_s = time.monotonic()
        rows = video.shape[0] * ray.train.get_context().get_world_size()
        clips_per_s = (self.num_steps - self._logged_step) * rows / (now_s - self._logged_s)
        self._logged_s, self._logged_step = now_s, self.num_steps
        spatial = codebook_usage(output.tokens.spatial, self.config.model.num_spatial_words)
        temporal = codebook_usage(output.tokens.temporal, self.config.model.num_temporal_words)
        psnr = psnr_db(video, output.reconstruction.detach().clamp(-1, 1), 2.0).mean()
        return (
            f"step {self.num_steps} ({self.fraction_done:4.0%}): loss {loss.item():.4f}, "
            f"PSNR {psnr.item():.2f} dB, perplexity {spatial.perplexity:.0f} spatial "
            f"{temporal.perplexity:.0f} temporal, learning rate {rate:.0%} of peak, "
            f"{clips_per_s:.1f} clips/s"
        )

    def _log(self, message: str) -> None:
        if ray.train.get_context().get_world_rank() == 0:
            logger.info(message)


def load_lexicon(config: TrainConfig) -> Lexicon:
    """The run's lexicon, cut to the numbers of words that the model asks for."""
    lexicon = Lexicon.load(config.lexicon)
    wanted = (config.model.num_spatial_words, config.model.num_temporal_words)
    if wanted == (lexicon.spatial.num_words, lexicon.temporal.num_words):
        return lexicon
    return lexicon.subset(*wanted)


def training_loss(
    video: Float[Tensor, "b c t h w"], output: SweetTokOutput, config: LossConfig
) -> Float[Tensor, ""]:
    """Weighted sum of the reconstruction and quantiser losses."""
    loss = config.quantizer * output.quantizer_loss
    if config.squared_error:
        loss = loss + config.squared_error * F.mse_loss(output.reconstruction, video)
    if config.absolute_error:
        loss = loss + config.absolute_error * F.l1_loss(output.reconstruction, video)
    return loss
