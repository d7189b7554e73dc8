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
from pipeline.training.parallel import gather_rows, num_workers, worker_rank
from pipeline.training.phases import TrainingPosition
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
        num_workers: Workers that made the checkpoint.
        num_restores: How often the run went on from a checkpoint.
        best_score: The best evaluation so far, more is better; None before the first.
        best_step: Optimiser steps done at that evaluation.
    """

    position: TrainingPosition
    recipe: dict[str, Any]
    num_workers: int = 1
    num_restores: int = 0
    best_score: float | None = None
    best_step: int | None = None

    @classmethod
    def read(cls, directory: Path) -> TrainingProgress:
        """The progress of the checkpoint in `directory`."""
        values = json.loads((directory / PROGRESS_FILE).read_text("utf-8"))
        return cls(**values | {"position": TrainingPosition(**values["position"])})

    def write(self, directory: Path) -> None:
        """The inverse of `read`."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (directory / PROGRESS_FILE).write_text(text, encoding="utf-8")


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


def load_checkpoint(directory: Path, trainer: Trainer, recipe: dict[str, Any]) -> TrainingProgress:
    """Restores the trainer and this worker's random state; returns how far the run was.

    With another number of workers than before, the run goes on, but not as it would have: every
    worker's share of the data and its random state change.

    Raises:
        PipelineError: The checkpoint belongs to another recipe.
    """
    progress = TrainingProgress.read(directory)
    if progress.recipe != recipe:
        raise PipelineError(recipe_difference(progress.recipe, recipe, str(directory)))
    tensors = safetensors.torch.load_file(directory / _TENSORS_FILE)
    trainer.load_state_tensors(tensors, progress.position)
    if progress.num_workers == num_workers():
        _restore_random_state(without_prefix(_RANDOM, tensors), trainer.device)
    return progress


def recipe_difference(found: dict[str, Any], wanted: dict[str, Any], where: str) -> str:
    """One readable text that names every setting in which two recipes differ."""
    found_flat, wanted_flat = _flattened(found), _flattened(wanted)
    lines = [
        f"  {name}: {found_flat.get(name)!r} there, {wanted_flat.get(name)!r} now"
        for name in dict.fromkeys([*found_flat, *wanted_flat])
        if found_flat.get(name) != wanted_flat.get(name)
    ]
    return (
        f"{where} belongs to a run with other settings:\n" + "\n".join(lines) + "\n"
        "choose another run.name and run.output, delete the old ones, or restore the settings"
    )


def _flattened(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, dict):
            flat |= _flattened(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


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
