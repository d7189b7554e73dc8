"""What a training checkpoint holds, without pickle: tensors in safetensors, counters in JSON.

tokenizer/             a complete tokenizer, loadable with SweetTok.from_pretrained
optimizer.safetensors  moments of every parameter, random state of the worker
progress.json          steps, seconds and epochs done, and the recipe they belong to
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from pipeline.errors import PipelineError
from pipeline.training.optimizer import ModelOptimizer
from sweettok import SweetTok
from sweettok.persistence import WEIGHTS_FILE, load_weights

TOKENIZER_DIRECTORY = "tokenizer"

_OPTIMIZER_FILE = "optimizer.safetensors"
PROGRESS_FILE = "progress.json"
_RANDOM_STATE = "random_state"


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run is.

    Attributes:
        step: Optimiser steps done.
        elapsed_s: Seconds of training so far, over all attempts.
        epoch: Epochs begun; the data order of an epoch depends on the seed and on this number.
        recipe: The run's `TrainConfig.recipe`.
        num_restores: How often the run went on from a checkpoint.
    """

    step: int
    elapsed_s: float
    epoch: int
    recipe: dict[str, Any]
    num_restores: int = 0


def save_checkpoint(
    directory: Path, model: SweetTok, optimizer: ModelOptimizer, progress: TrainingProgress
) -> None:
    """Writes all three parts into `directory`."""
    model.save_pretrained(directory / TOKENIZER_DIRECTORY)
    tensors = optimizer.state_tensors()
    tensors[_RANDOM_STATE] = torch.get_rng_state()
    safetensors.torch.save_file(tensors, directory / _OPTIMIZER_FILE)
    text = json.dumps(dataclasses.asdict(progress), indent=2) + "\n"
    (directory / PROGRESS_FILE).write_text(text, encoding="utf-8")


def load_checkpoint(
    directory: Path, model: SweetTok, optimizer: ModelOptimizer, recipe: dict[str, Any]
) -> TrainingProgress:
    """Restores model, optimiser and random state; returns how far the run was.

    Raises:
        PipelineError: The checkpoint belongs to another recipe.
    """
    progress = TrainingProgress(**json.loads((directory / PROGRESS_FILE).read_text("utf-8")))
    if progress.recipe != recipe:
        raise PipelineError(recipe_difference(progress.recipe, recipe, str(directory)))
    load_weights(model, directory / TOKENIZER_DIRECTORY / WEIGHTS_FILE)
    tensors = safetensors.torch.load_file(directory / _OPTIMIZER_FILE)
    torch.set_rng_state(tensors.pop(_RANDOM_STATE))
    optimizer.load_state_tensors(tensors)
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
