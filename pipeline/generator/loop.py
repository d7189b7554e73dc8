"""What every worker of a generator's training runs: restore, step, log, look, checkpoint.

Ray Train starts `train_worker` in each worker process and restarts all of them from the last
checkpoint when one is lost.
"""

from __future__ import annotations

import logging
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import safetensors.torch
import torch

from pipeline.errors import PipelineError
from pipeline.generator.config import TrainGeneratorConfig
from pipeline.generator.data import TokenSource, endless, lockstep_states
from pipeline.generator.model import create_generator, next_token_losses, save_generator
from pipeline.generator.samples import decoded
from pipeline.generator.sampling import no_class, prompts, sample
from pipeline.generator.state import (
    GENERATOR_DIRECTORY,
    PROGRESS_FILE,
    TENSORS_FILE,
    GeneratorProgress,
)
from pipeline.generator.trainer import GeneratorStep, GeneratorTrainer
from pipeline.sequences.vocabulary import NO_CLASS
from pipeline.training.parallel import num_workers, worker_rank
from pipeline.training.precision import autocast
from pipeline.training.run_log import RunLog
from sweettok import SweetTok

logger = logging.getLogger(__name__)

_PHASE = "generator"


def train_worker(values: dict[str, Any]) -> None:
    """Trains until all steps are done.

    Args:
        values: "config", a `TrainGeneratorConfig` with absolute places, as plain values; "recipe",
            that of the run; "version", the token dataset's; "tokenizer", a directory with the
            tokenizer for pictures, where this node has it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as directory:
        config = TrainGeneratorConfig.from_mapping(values["config"])
        run = _GeneratorRun(config, values, Path(directory))
        run.train()


class _GeneratorRun:
    """One worker's trainer, and what is done around its steps."""

    def __init__(
        self, config: TrainGeneratorConfig, values: dict[str, Any], directory: Path
    ) -> None:
        self.config = config
        self.recipe = values["recipe"]
        self.directory = directory
        self.tokenizer = values["tokenizer"]
        device = ray.train.torch.get_device()
        assert isinstance(device, torch.device)
        if device.type == "cpu":
            torch.set_num_threads(config.workers.num_cpus_per_worker)
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
            evaluation = self.config.evaluation
            if evaluation is not None and self._is_due(evaluation.every_steps):
                self._evaluate()
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
        losses = {name: value.item() for name, value in step.losses.items()}
        norm = step.gradient_norm.item()
        if not all(
            map(torch.isfinite, (torch.tensor([*losses.values()]).sum(), torch.tensor(norm)))
        ):
            raise PipelineError(
                f"the loss is no longer a number after {step.num_steps} steps; lower "
                "training.optimizer.learning_rate or lengthen training.warmup_steps"
            )
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
        values = {f"loss/{name}": value for name, value in losses.items()}
        values |= {
            "gradient_norm": norm,
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

    @torch.no_grad()
    def _evaluate(self) -> None:
        """Looks at held-out clips with the weights that are kept; the first worker says it."""
        settings = self.config.evaluation
        assert settings is not None
        self.trainer.copy_weights_to(self.kept)
        if self.log is None:
            return
        torch.nn.Module.to(self.kept, self.trainer.device)
        losses = self.held_out_losses(settings.max_clips)
        values = {f"loss/{name}": value for name, value in losses.items()}
        self.log.scalars("evaluation", _PHASE, self.trainer.num_steps, values)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        self._say(f"held-out clips after {self.trainer.num_steps} steps: {shown} nats per token")
        if settings.num_samples and self.tokenizer and Path(self.tokenizer).is_dir():
            self._show_samples()
        torch.nn.Module.to(self.kept, "cpu")

    def held_out_losses(self, max_clips: int) -> dict[str, float]:
        """Mean losses; with classes also those of the same clips without their class."""
        sums: dict[str, float] = {}
        count = 0
        batch_size = self.config.training.batch_size_per_worker
        for sequences in self.source.held_out_sequences(max_clips, batch_size):
            given = sequences.to(self.trainer.device)
            variants = {"": given}
            if self.vocabulary.class_names:
                without = given.clone()
                without[:, 1] = NO_CLASS
                variants["_without_class"] = without
            for suffix, variant in variants.items():
                with autocast(self.trainer.dtype, self.trainer.device):
                    logits = self.kept(input_ids=variant[:, :-1], use_cache=False).logits
                for name, value in next_token_losses(logits, variant, self.vocabulary).items():
                    key = f"{name}{suffix}"
                    sums[key] = sums.get(key, 0.0) + value.item() * len(given)
            count += len(given)
        return {name: value / count for name, value in sums.items()}

    def _show_samples(self) -> None:
        """Samples to TensorBoard, one of each of the first classes; reproducible by step."""
        settings = self.config.evaluation
        assert settings is not None
        assert self.log is not None
        names = self.vocabulary.class_names
        count = settings.num_samples
        class_ids = no_class(count)
        if names:
            class_ids = torch.tensor(
                [self.vocabulary.class_id(names[number % len(names)]) for number in range(count)]
            )
        given = prompts(self.vocabulary, class_ids)
        state = torch.get_rng_state()
        found = torch.cat(
            list(
                sample(
                    self.kept,
                    self.vocabulary,
                    given,
                    settings.sampling,
                    seed=self.config.training.seed,
                )
            )
        )
        torch.set_rng_state(state)
        tokenizer = SweetTok.from_pretrained(self.tokenizer).to(self.trainer.device).eval()
        samples = decoded(found, self.vocabulary, tokenizer)
        strips = torch.from_numpy(samples.frames).permute(0, 2, 1, 3, 4).flatten(2, 3)
        self.log.pictures(self.trainer.num_steps, strips)

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
            safetensors.torch.save_file(tensors, directory / TENSORS_FILE)
            progress.write(directory)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint(name))

    def _say(self, message: str) -> None:
        if worker_rank() == 0:
            logger.info(message)
