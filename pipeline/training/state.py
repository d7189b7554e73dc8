"""What a training checkpoint holds, without pickle: tensors in safetensors, counters in JSON.

tokenizer/            the weights to keep, a complete tokenizer for SweetTok.from_pretrained
best/                 the same of the best evaluation so far, if there was one
training.safetensors  weights, moments, averages, discriminator, random state of every worker
metrics.jsonl         the numbers logged so far
progress.json         how far the run is, and the recipe it belongs to
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.training.parallel import gather_rows, worker_rank
from pipeline.training.phases import TrainingPosition
from pipeline.training.run_recipe import check_same_recipe
from pipeline.training.tensor_names import prefixed, without_prefix
from pipeline.training.trainer import Trainer

TOKENIZER_DIRECTORY = "tokenizer"
BEST_DIRECTORY = "best"
PROGRESS_FILE = "progress.json"
_TENSORS_FILE = "training.safetensors"
_RANDOM = "random"


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run is.

    Attributes:
        position: Phase and step.
        recipe: The run's `TrainConfig.recipe`.
        frames: Hashes of the frames that it works with, as `PreparedData.fingerprints`.
        num_restores: How often the run went on from a checkpoint.
        best_score: The best evaluation so far, more is better; None before the first.
        best_step: Optimiser steps done at that evaluation.
        best_is_adversarial: Whether a discriminator had its part in it.
    """

    position: TrainingPosition
    recipe: dict[str, Any]
    frames: dict[str, str]
    num_restores: int = 0
    best_score: float | None = None
    best_step: int | None = None
    best_is_adversarial: bool = False

    @classmethod
    def read(cls, directory: Path) -> TrainingProgress:
        """The progress of the checkpoint in `directory`."""
        return cls.parse((directory / PROGRESS_FILE).read_bytes())

    @classmethod
    def parse(cls, text: bytes) -> TrainingProgress:
        """The progress that a file's `text` tells.

        Raises:
            ValueError: It is half-written, or no progress.
        """
        try:
            values = json.loads(text)
            return cls(**values | {"position": TrainingPosition(**values["position"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the progress of a run: {error}") from error

    def write(self, directory: Path) -> None:
        """The inverse of `read`."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (directory / PROGRESS_FILE).write_text(text, encoding="utf-8")

    def check_same_run(self, recipe: dict[str, Any], frames: dict[str, str], where: str) -> None:
        """Refuses to go on with other settings or other frames.

        Raises:
            PipelineError: They differ from this progress.
        """
        check_same_recipe(self.recipe, recipe, where)
        if self.frames != frames:
            kinds = [
                kind
                for kind in sorted(self.frames.keys() | frames.keys())
                if self.frames.get(kind) != frames.get(kind)
            ]
            raise PipelineError(
                f"{where} belongs to a run with other {' and '.join(kinds)} frames: videos were "
                "added, removed, changed, or could not be read; restore them, or choose another "
                "run.name and run.output"
            )


def training_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the first worker; all workers call this together."""
    tensors = prefixed(_RANDOM, _random_states(trainer.device))
    if worker_rank() == 0 or trainer.is_sharded:
        tensors |= trainer.state_tensors()
    return tensors


def save_checkpoint(
    directory: Path, tensors: Mapping[str, Tensor], progress: TrainingProgress
) -> None:
    """Writes what a run needs to go on, beside the tokenizers."""
    safetensors.torch.save_file(dict(tensors), directory / _TENSORS_FILE)
    progress.write(directory)


def load_checkpoint(
    directory: Path, trainer: Trainer, recipe: dict[str, Any], frames: dict[str, str]
) -> TrainingProgress:
    """Restores the trainer and this worker's random state; returns how far the run was.

    Raises:
        PipelineError: The checkpoint belongs to another recipe or to other frames.
    """
    progress = TrainingProgress.read(directory)
    progress.check_same_run(recipe, frames, str(directory))
    tensors = safetensors.torch.load_file(directory / _TENSORS_FILE)
    trainer.load_state_tensors(tensors, progress.position)
    _restore_random_state(without_prefix(_RANDOM, tensors), trainer.device)
    return progress


def _random_states(device: torch.device) -> dict[str, Tensor]:
    """Random states of all workers, one row each."""
    states = {"cpu": gather_rows(torch.get_rng_state(), device)}
    if device.type == "cuda":
        states["cuda"] = gather_rows(torch.cuda.get_rng_state(device), device)
    return states


def _restore_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    rank = worker_rank()
    # Copies: the generator misreads a row of a larger tensor.
    torch.set_rng_state(states["cpu"][rank].clone())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"][rank].clone(), device)
