"""Measures of a few videos at a time, kept on disk: an evaluation that is started again goes on.

    <output>/parts/<recipe>/<row>-<identity>/00000.safetensors

The recipe hashes what is measured and how, the identity what is evaluated: no part is ever taken
for another's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pipeline.errors import QuarantineReason
from pipeline.whole_files import replace_file

SHOWN = "shown"
_MAY_PASS = frozenset(
    {
        QuarantineReason.NOT_FOUND,
        QuarantineReason.PERMISSION,
        QuarantineReason.READ_ERROR,
        QuarantineReason.DEADLINE_EXCEEDED,
        QuarantineReason.DECODER_CRASH,
    }
)
_SLUG_CHARACTERS = 40
_HASH_CHARACTERS = 12


@dataclass(frozen=True, eq=False)
class Part:
    """Measures of the clips of a few videos.

    Attributes:
        measures: Tensors [clips, …] by the name of the measure.
        videos: The name of each clip's video.
        left_out: Videos that gave no clip: "video", "reason" and "message".
        shown: uint8 [k, t, h, w, c], a few clips as pixels; the same ones for every row.
    """

    measures: dict[str, Tensor]
    videos: list[str]
    left_out: list[dict[str, str]] = field(default_factory=list)
    shown: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence[Part], max_clips: int | None = None) -> Part:
        """All parts as one, at most so many clips; the pictures of the first."""
        names = dict.fromkeys(name for part in parts for name in part.measures)
        measures = {
            name: torch.cat([part.measures[name] for part in parts if name in part.measures])
            for name in names
        }
        return cls(
            {name: values[:max_clips] for name, values in measures.items()},
            [video for part in parts for video in part.videos][:max_clips],
            [video for part in parts for video in part.left_out],
            next((part.shown for part in parts if part.shown is not None), None),
        )


class PartStore:
    """Parts of one row on disk.

    Args:
        directory: Of all rows of the recipe.
        label: What the row is called.
        identity: Hash of what is evaluated; None keeps parts in memory only.
    """

    def __init__(self, directory: Path, label: str, identity: str | None) -> None:
        slug = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")[:_SLUG_CHARACTERS]
        self._directory = (
            None if identity is None else directory / f"{slug}-{identity[:_HASH_CHARACTERS]}"
        )
        self._in_memory: dict[int, Part] = {}

    def read(self, number: int) -> Part | None:
        """The part of that number; None if it was not measured yet."""
        if number in self._in_memory or self._directory is None:
            return self._in_memory.get(number)
        path = self._path(number)
        if not path.exists():
            return None
        with safetensors.safe_open(path, framework="pt") as file:
            words: dict[str, Any] = json.loads(file.metadata()["part"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        shown = tensors.pop(SHOWN, None)
        return Part(tensors, words["videos"], words["left_out"], shown)

    def write(self, number: int, part: Part) -> None:
        """Keeps a part; the file is whole or not there.

        One that lacks a video for a reason that may pass is kept in memory only.
        """
        may_pass = any(video["reason"] in _MAY_PASS for video in part.left_out)
        if self._directory is None or may_pass:
            self._in_memory[number] = part
            return
        words = json.dumps({"videos": part.videos, "left_out": part.left_out})
        tensors = {name: values.contiguous() for name, values in part.measures.items()}
        if part.shown is not None:
            tensors[SHOWN] = part.shown.contiguous()
        replace_file(self._path(number), safetensors.torch.save(tensors, {"part": words}))

    def _path(self, number: int) -> Path:
        assert self._directory is not None
        return self._directory / f"{number:05}.safetensors"
