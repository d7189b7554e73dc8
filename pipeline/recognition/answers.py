"""Answers on disk, a few episodes at a time: a run that is started again asks nothing twice.

    <output>/answers/<recipe>/<labelling>-<K>_shot/<reader>-<identity>/00000.json

The recipe hashes videos and episodes, the identity what answers: no answer is ever taken for
another's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.whole_files import replace_file

Answers = list[list[int | None]]
"""Of each episode, the class answered to each question; None is no class at all."""
_SLUG_CHARACTERS = 40
_HASH_CHARACTERS = 12


def slug(name: str) -> str:
    """A name as a part of a path."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:_SLUG_CHARACTERS] or "_"


@dataclass(frozen=True)
class AnswerStore:
    """The answers of one reader to one labelling with one number of examples.

    Attributes:
        directory: Of this reader.
        episodes_per_part: Episodes of one file.
        num_questions: Of an episode.
    """

    directory: Path
    episodes_per_part: int
    num_questions: int

    @classmethod
    def of_reader(
        cls, cell: Path, label: str, identity: str, *, episodes_per_part: int, num_questions: int
    ) -> AnswerStore:
        """The store below the directory `cell` of a labelling and a number of examples."""
        directory = cell / f"{slug(label)}-{identity[:_HASH_CHARACTERS]}"
        return cls(directory, episodes_per_part, num_questions)

    def collect(
        self,
        num_episodes: int,
        answer: Callable[[int], Sequence[int | None]],
        progress: Callable[[int], None],
    ) -> Answers:
        """All answers; those that are not on disk are asked for and kept.

        Args:
            num_episodes: How many episodes.
            answer: Gives the answers to the episode of a number.
            progress: Told after each part that was asked for, how many episodes there are now.

        Raises:
            PipelineError: A kept file is damaged.
        """
        answers: Answers = []
        while len(answers) < num_episodes:
            number = len(answers) // self.episodes_per_part
            part = self._read(number)
            if part is None:
                first = number * self.episodes_per_part
                part = [list(answer(first + index)) for index in range(self.episodes_per_part)]
                replace_file(self._path(number), (json.dumps(part) + "\n").encode())
                progress(len(answers) + len(part))
            answers += part
        return answers[:num_episodes]

    def _read(self, number: int) -> Answers | None:
        path = self._path(number)
        if not path.exists():
            return None
        try:
            part: Answers = json.loads(path.read_bytes())
            widths = {len(row) for row in part}
        except (ValueError, TypeError):
            part, widths = [], set()
        if len(part) != self.episodes_per_part or widths != {self.num_questions}:
            raise PipelineError(f"{path}: damaged; remove it and start again, it is asked anew")
        return part

    def _path(self, number: int) -> Path:
        return self.directory / f"{self.episodes_per_part:03}x{number:05}.json"
