"""What a checkpoint of a generator's training holds, without pickle.

generator/            the weights to keep, for `load_generator`
training.safetensors  weights, moments, averages
metrics.jsonl         the numbers logged so far
samples.png           the newest samples, if the run draws some
progress.json         steps, place in the token dataset, and the recipe it belongs to
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.training.run_recipe import check_same_recipe

GENERATOR_DIRECTORY = "generator"
TENSORS_FILE = "training.safetensors"
PROGRESS_FILE = "progress.json"
SAMPLES_FILE = "samples.png"


@dataclass(frozen=True)
class GeneratorProgress:
    """How far a run is.

    Attributes:
        num_steps: Optimiser steps done.
        recipe: The run's `TrainGeneratorConfig.recipe`.
        version: Version of the token dataset.
        fingerprint: Of the clips that are read.
        loader: The first worker's place among them; the others read in lockstep.
        num_restores: How often the run went on from a checkpoint.
    """

    num_steps: int
    recipe: dict[str, Any]
    version: int
    fingerprint: str
    loader: dict[str, Any]
    num_restores: int = 0

    @classmethod
    def parse(cls, text: bytes) -> GeneratorProgress:
        """The progress that a file's `text` tells.

        Raises:
            ValueError: It is half-written, or no progress.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"not the progress of a generator's run: {error}") from error

    def write(self, directory: Path) -> None:
        """Writes `progress.json`."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (directory / PROGRESS_FILE).write_text(text, encoding="utf-8")

    def check_same_run(self, recipe: dict[str, Any], where: str) -> None:
        """Refuses to go on with other settings.

        Raises:
            PipelineError: They differ from this progress.
        """
        check_same_recipe(self.recipe, recipe, where)
