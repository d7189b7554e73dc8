"""What a run and an anchor leave on disk, each file renamed into place.

trained.safetensors    the weights, with what there is to say of the training
clips.safetensors      every measure of every held-out clip, "part/measure"
pictures.safetensors   a few reconstructions as pixels, by part
result.json            the means; written last, with the recipe of the measuring
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from pipeline.proof.evaluation import Measures
from pipeline.whole_files import replace_file

RESULT_FILE = "result.json"
RESULTS_FILE = "results.json"  # of the whole comparison, with its settings
CLIPS_FILE = "clips.safetensors"
PICTURES_FILE = "pictures.safetensors"
TRAINED_FILE = "trained.safetensors"


def write_measured(
    directory: Path,
    result: Mapping[str, Any],
    parts: Mapping[str, Measures],
    pictures: Mapping[str, Tensor],
) -> None:
    """Writes measures; `result` gets their means as "parts"."""
    directory.mkdir(parents=True, exist_ok=True)
    by_clip = {
        f"{part}/{name}": values.contiguous()
        for part, measures in parts.items()
        for name, values in measures.by_clip.items()
    }
    replace_file(directory / CLIPS_FILE, safetensors.torch.save(by_clip))
    replace_file(directory / PICTURES_FILE, safetensors.torch.save(dict(pictures)))
    whole = {**result, "parts": {name: measures.summary for name, measures in parts.items()}}
    # The result goes last: all of it is there when it is.
    replace_file(directory / RESULT_FILE, (json.dumps(whole, indent=1) + "\n").encode())


def read_result(directory: Path, measuring_recipe: str) -> dict[str, Any] | None:
    """The result of this measuring; None if there is none, or one of another measuring."""
    path = directory / RESULT_FILE
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return result if result["measuring_recipe"] == measuring_recipe else None


def read_by_clip(directory: Path, part: str) -> dict[str, Tensor]:
    """Every measure of every clip of one part."""
    found = safetensors.torch.load_file(directory / CLIPS_FILE)
    prefix = f"{part}/"
    return {
        name.removeprefix(prefix): values
        for name, values in found.items()
        if name.startswith(prefix)
    }


def read_pictures(directory: Path) -> dict[str, Tensor]:
    """uint8 reconstructions [clips, t, h, w, c] by part."""
    return safetensors.torch.load_file(directory / PICTURES_FILE)
