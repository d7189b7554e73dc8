"""A run's recipe: the settings that decide its result, kept beside it.

Two runs with one recipe are one run. An output or a checkpoint with another recipe is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import PipelineError
from pipeline.setting_differences import setting_differences

RECIPE_FILE = "training_recipe.json"


class RunSettings(Protocol):
    """The settings of a run."""

    @property
    def recipe(self) -> dict[str, object]:
        """Those that decide its result."""

    def to_yaml(self) -> str:
        """All of them."""


def check_same_recipe(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    """Refuses a result or a checkpoint of other settings.

    Raises:
        PipelineError: Names every setting in which the recipes differ.
    """
    if found != wanted:
        raise PipelineError(
            f"{where} belongs to a run with other settings:\n{setting_differences(found, wanted)}\n"
            "choose another run.name and run.output, delete the old ones, or restore the settings"
        )


def is_finished(output: Path, recipe: Mapping[str, Any], *, what: str, mark: str) -> bool:
    """Whether a run with this recipe has left its result in `output`.

    Args:
        output: Directory of the result; may be missing or empty.
        recipe: The run's.
        what: What is trained, in one word.
        mark: A file that every result has, whoever made it.

    Raises:
        PipelineError: Something else is there.
    """
    if not (output / mark).exists():
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise PipelineError(
                f"{output}: is there already and holds no {what} of this job; choose another "
                "run.output or an empty directory"
            )
        return False
    recipe_file = output / RECIPE_FILE
    if not recipe_file.exists():
        raise PipelineError(
            f"{output}: holds a {what} that this job did not train; choose another run.output"
        )
    check_same_recipe(json.loads(recipe_file.read_text("utf-8")), recipe, str(output))
    return True


def write_settings(directory: Path, settings: RunSettings) -> None:
    """Puts the recipe and the whole configuration beside a result."""
    text = json.dumps(settings.recipe, indent=2) + "\n"
    (directory / RECIPE_FILE).write_text(text, "utf-8")
    (directory / "config.yaml").write_text(settings.to_yaml(), "utf-8")
