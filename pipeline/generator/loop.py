"""What every worker of a generator's training runs: restore, step, log, look, checkpoint.

Ray Train starts `train_worker` in each worker process and restarts all of them from the last
checkpoint when one is lost.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import ray.train
import safetensors.torch
import torch

from pipeline.errors import PipelineError
from pipeline.generator.config import TrainGeneratorConfig
from pipeline.generator.data import TokenSource, endless, lockstep_states
from pipeline.generator.evaluation import GeneratorEvaluation
from pipeline.generator.model import create_generator, save_generator
from pipeline.generator.state import (
    GENERATOR_DIRECTORY,
    PROGRESS_FILE,
    SAMPLES_FILE,
    TENSORS_FILE,
    GeneratorProgress,
)
from pipeline.generator.trainer import GeneratorStep, GeneratorTrainer
from pipeline.training.parallel import num_workers, worker_rank
from pipeline.training.ray_run import worker_device
from pipeline.training.run_log import RunLog

logger = logging.getLogger(__name__)

_PHASE = "generator"


def train_worker(values: dict[str, Any]) -> None:
    """Trains until all steps are done.

    Args:
        values: "config", a `TrainGeneratorConfig` with absolute places, as plain values; "recipe",
            that of the run; "version", the token dataset's; "has_tokenizer", whether it carries
            one; "comparisons", a list of `ClipComparison`.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as directory:
        config = TrainGeneratorConfig.from_mapping(values["config"])
        run = _GeneratorRun(config, values, Path(directory))
        run.train()


class _GeneratorRun:
    """One worker's trainer, and what is done around its steps.

    The directory holds the first worker's log and newest picture between checkpoints.
    """

    def __init__(
        self, config: TrainGeneratorConfig, values: dict[str, Any], directory: Path
    ) -> None:
        self.config = config
        self.recipe = values["recipe"]
        self.directory = directory
        device = worker_device(config.workers)
        self.source = TokenSource.open(config.data, values["version"])
        self.vocabulary = self.source.vocabulary
        seed = config.training.seed
        self.trainer = GeneratorTrainer(
            create_generator(config.model, self.vocabulary, seed=seed),
            self.vocabulary,
            config.training,
            device=device,
            parallelism=config.workers.parallelism,
        )
        self.kept = create_generator(config.model, self.vocabulary, seed=seed).eval()
        self.loader = self.source.loader(
            config.training, config.data.order, worker_rank(), num_workers()
        )
        self.evaluation = None
        if config.evaluation is not None:
            self.evaluation = GeneratorEvaluation(
                config.evaluation,
                config.data,
                self.source,
                config.training,
                device=device,
                has_tokenizer=values["has_tokenizer"],
                comparisons=values["comparisons"],
            )
        self.num_restores = 0
        self.log = self._restore()
        self._logged_s, self._logged_step = time.monotonic(), self.trainer.num_steps

    def train(self) -> None:
        """Steps until the end; everything that happens every so many steps happens here."""
        training, every = self.config.training, self.config.run
        batches = endless(self.loader)
        while not self.trainer.is_done:
            chosen = [
                self.source.sequences(batch)
                for batch in islice(batches, training.accumulation_steps)
            ]
            step = self.trainer.step(chosen)
            if self._is_due(every.log_every_steps) or self._is_due(every.checkpoint_every_steps):
                self._log(step)
            if self.evaluation and self._is_due(self.evaluation.config.every_steps):
                self._evaluate(step, self.evaluation)
            if self._is_due(every.checkpoint_every_steps):
                self._checkpoint()
        if self.log is not None:
            self.log.close()

    def _is_due(self, every_steps: int) -> bool:
        return self.trainer.num_steps % every_steps == 0 or self.trainer.is_done

    def _restore(self) -> RunLog | None:
        restored = ray.train.get_checkpoint()
        if restored is None:
            return self._create_log(None)
        with restored.as_directory() as path:
            found = GeneratorProgress.parse((Path(path) / PROGRESS_FILE).read_bytes())
            found.check_same_run(self.recipe, str(path))
            tensors = safetensors.torch.load_file(Path(path) / TENSORS_FILE)
            self.trainer.load_state_tensors(tensors, found.num_steps)
            self.loader.load_state_dict(lockstep_states(found.loader)[worker_rank()])
            self.num_restores = found.num_restores + 1
            log = self._create_log(Path(path))
            if log is not None and (Path(path) / SAMPLES_FILE).exists():
                shutil.copyfile(Path(path) / SAMPLES_FILE, self.directory / SAMPLES_FILE)
        self._say(f"continuing at step {found.num_steps}")
        return log

    def _create_log(self, restored: Path | None) -> RunLog | None:
        if worker_rank() != 0:
            return None
        return RunLog(
            self.directory,
            tensorboard=self.config.run.tensorboard,
            restored=restored,
            num_steps=self.trainer.num_steps,
        )

    def _log(self, step: GeneratorStep) -> None:
        self._check_finite(step)
        training = self.config.training
        now_s = time.monotonic()
        num_sequences = (
            (step.num_steps - self._logged_step)
            * training.batch_size_per_worker
            * training.accumulation_steps
            * num_workers()
        )
        sequences_per_s = num_sequences / (now_s - self._logged_s)
        self._logged_s, self._logged_step = now_s, step.num_steps
        if self.log is None:
            return
        losses = {name: value.item() for name, value in step.losses.items()}
        values = {f"loss/{name}": value for name, value in losses.items()}
        values |= {
            "gradient_norm": step.gradient_norm.item(),
            "learning_rate": step.rate * training.optimizer.learning_rate,
            "sequences_per_s": sequences_per_s,
            "epoch": float(self.loader.epoch),
        }
        self.log.scalars("train", _PHASE, step.num_steps, values)
        tokens = sequences_per_s * self.vocabulary.length
        self._say(
            f"step {step.num_steps}: loss {losses['total']:.4f} nats per token, epoch "
            f"{self.loader.epoch}, rate {step.rate:.0%} of peak, {tokens:,.0f} tokens/s"
        )

    def _check_finite(self, step: GeneratorStep) -> None:
        """Lets no step go on to an evaluation or a checkpoint once something is no number.

        Weights that are none stay so: the last step's loss and gradient tell of all before it.

        Raises:
            PipelineError: Its loss or its gradient is none.
        """
        loss, norm = step.losses["total"].item(), step.gradient_norm.item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise PipelineError(
                "a loss or a gradient is no longer a number: after "
                f"{step.num_steps} steps the loss is {loss:g} and the gradient's norm {norm:g}; "
                "lower training.optimizer.learning_rate or lengthen training.warmup_steps"
            )

    def _evaluate(self, step: GeneratorStep, evaluation: GeneratorEvaluation) -> None:
        """Looks at the weights that are kept; all workers take part, the first one says it."""
        self._check_finite(step)
        self.trainer.copy_weights_to(self.kept)
        torch.nn.Module.to(self.kept, self.trainer.device)
        look = evaluation.look(self.kept)
        torch.nn.Module.to(self.kept, "cpu")
        if self.log is None:
            return
        values = {f"loss/{name}": value for name, value in look.losses.items()}
        values |= {f"comparison/{name}": value for name, value in look.comparison.items()}
        self.log.scalars("evaluation", _PHASE, step.num_steps, values)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in look.losses.items())
        shown += " nats per token"
        shown += "".join(f", {name} {value:.4g}" for name, value in look.comparison.items())
        self._say(f"held-out clips after {step.num_steps} steps: {shown}")
        if look.samples is not None:
            look.samples.sheet().save(self.directory / SAMPLES_FILE)
            strips = torch.from_numpy(look.samples.frames).permute(0, 2, 1, 3, 4).flatten(2, 3)
            self.log.pictures(step.num_steps, strips, what="sample")

    def _checkpoint(self) -> None:
        """Reports to Ray Train; the first worker's files are what is kept."""
        self.trainer.copy_weights_to(self.kept)
        tensors = {}
        if worker_rank() == 0 or self.trainer.is_sharded:
            tensors = self.trainer.state_tensors()
        metrics = {"step": self.trainer.num_steps}
        if self.log is None:
            ray.train.report(metrics)
            return
        progress = GeneratorProgress(
            self.trainer.num_steps,
            self.recipe,
            self.source.training.version,
            self.source.training.fingerprint,
            self.loader.state_dict(),
            self.num_restores,
        )
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            save_generator(self.kept, self.vocabulary, directory / GENERATOR_DIRECTORY)
            self.log.copy_to(directory)
            if (self.directory / SAMPLES_FILE).exists():
                shutil.copyfile(self.directory / SAMPLES_FILE, directory / SAMPLES_FILE)
            safetensors.torch.save_file(tensors, directory / TENSORS_FILE)
            progress.write(directory)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint(name))

    def _say(self, message: str) -> None:
        if worker_rank() == 0:
            logger.info(message)
