"""Who answers: from the examples and the questions of an episode to a class for each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.recognition.config import ReaderConfig
from pipeline.recognition.endpoint import EndpointConfig, EndpointReader
from pipeline.recognition.episodes import Episode
from pipeline.recognition.local_model import LocalModel, LocalModelReader
from pipeline.recognition.nearest_class import (
    BagOfWordsConfig,
    BagOfWordsReader,
    CodeVectorsConfig,
    CodeVectorsReader,
)
from pipeline.recognition.prompts import PromptWriter
from pipeline.recognition.videos import LabellingConfig, Video
from pipeline.recognition.words import WordTables


class Reader(Protocol):
    """Answers episodes of one labelling.

    Attributes:
        identity: Hash of everything besides videos and episodes that decides the answers.
        facts: What the result says of it: model, file hashes.
    """

    identity: str
    facts: Mapping[str, Any]

    def answer(self, episode: Episode) -> Sequence[int | None]:
        """The class of each question of `episode.asked`, in [0, N); None for no class at all.

        Raises:
            PipelineError: The reader cannot work.
        """
        ...

    def example(self, episode: Episode) -> str | None:
        """The text that a language model is asked about the first question; None without one."""
        ...


@dataclass
class Readers:
    """Makes readers; a language model is loaded once, for all labellings.

    Args:
        videos: The videos that episodes name.
        tables: Their words.
    """

    videos: Sequence[Video]
    tables: WordTables
    _models: dict[str, LocalModel] = field(default_factory=dict)

    def make(self, config: ReaderConfig, labelling: LabellingConfig) -> Reader:
        """The reader of that configuration for a labelling.

        Raises:
            PipelineError: There is no model where there should be one.
        """
        if isinstance(config, BagOfWordsConfig):
            return BagOfWordsReader(self.videos, self.tables, config)
        if isinstance(config, CodeVectorsConfig):
            return CodeVectorsReader(self.videos, self.tables, config)
        writer = PromptWriter(self.videos, self.tables, config.prompt, labelling)
        if isinstance(config, EndpointConfig):
            return EndpointReader(config, writer, labelling)
        if config.label not in self._models:
            self._models[config.label] = LocalModel(config)
        return LocalModelReader(self._models[config.label], writer, labelling)
