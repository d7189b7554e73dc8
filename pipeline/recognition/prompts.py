"""Examples and question as text for a language model, and its answer read back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pydantic

from pipeline.recognition.episodes import Episode
from pipeline.recognition.videos import LabellingConfig, Video
from pipeline.recognition.words import VideoWords, WordTables
from sweettok.strict_config import StrictConfig


class PromptConfig(StrictConfig):
    """How videos become text.

    Attributes:
        max_spatial_words, max_temporal_words: Of each video, the most telling words of each
            codebook; 0 leaves a codebook out.
        instruction: The first line; "{classes}" becomes the names of the classes.
    """

    max_spatial_words: int = pydantic.Field(default=6, ge=0)
    max_temporal_words: int = pydantic.Field(default=6, ge=0)
    instruction: str = "Words of a video => its class, one of: {classes}"

    @pydantic.model_validator(mode="after")
    def _says_something(self) -> PromptConfig:
        if not self.max_spatial_words and not self.max_temporal_words:
            raise ValueError("max_spatial_words and max_temporal_words are both 0: nothing to read")
        return self


@dataclass(frozen=True)
class Prompt:
    """An episode as text.

    Attributes:
        beginning: Instruction and examples, the same for all questions.
        questions: What follows it, one for each question, up to the place of the class's name.
        names: The names of the classes as the text has them.
        nothing: A question about no video at all: what a model answers to it is its habit.
    """

    beginning: str
    questions: tuple[str, ...]
    names: tuple[str, ...]
    nothing: str


class PromptWriter:
    """Writes the prompts of one labelling.

    Args:
        videos: The videos that episodes name.
        tables: Their words.
        config: How they become text.
        labelling: What is asked.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        tables: WordTables,
        config: PromptConfig,
        labelling: LabellingConfig,
    ) -> None:
        self._videos, self._tables = videos, tables
        self._config, self._labelling = config, labelling

    def write(self, episode: Episode) -> Prompt:
        """The prompt of an episode, its examples in the episode's shuffled order."""
        names = tuple(self._labelling.spoken_name(label) for label in episode.classes)
        lines = [self._config.instruction.replace("{classes}", ", ".join(names))]
        lines += [f"{self._described(video)} {names[number]}" for video, number in episode.examples]
        return Prompt(
            beginning="\n".join(lines) + "\n",
            questions=tuple(self._described(int(video)) for video in episode.asked),
            names=names,
            nothing=_described(VideoWords((), ())),
        )

    def _described(self, position: int) -> str:
        config = self._config
        found = self._tables.ranked(
            self._videos[position], config.max_spatial_words, config.max_temporal_words
        )
        return _described(found)


def _described(words: VideoWords) -> str:
    return f"{' '.join([*words.spatial, *words.temporal]) or 'nothing'} =>"


def class_of_answer(text: str, names: Sequence[str]) -> int | None:
    """The class that a written answer names; None if it names none, or several.

    Case and punctuation around a name do not matter; a name within a longer one ("dance" in
    "dance slowly") is that longer one. Several different names are no answer, unless the first line
    is one name alone.
    """
    first = text.strip().partition("\n")[0].strip(" .:*\"'`").lower()
    lowered = [name.lower() for name in names]
    if first in lowered:
        return lowered.index(first)
    longest_first = sorted(lowered, key=len, reverse=True)
    pattern = "|".join(re.escape(name) for name in longest_first)
    found = {match[0] for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", text.lower())}
    return lowered.index(found.pop()) if len(found) == 1 else None
