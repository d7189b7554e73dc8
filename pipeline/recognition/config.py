"""The settings of a run of few-shot recognition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from pipeline.dataset.location import DatasetConfig
from pipeline.recognition.endpoint import EndpointConfig
from pipeline.recognition.episodes import EpisodeConfig
from pipeline.recognition.local_model import LocalModelConfig
from pipeline.recognition.nearest_class import BagOfWordsConfig, CodeVectorsConfig
from pipeline.recognition.videos import LabellingConfig, VideosConfig
from sweettok.strict_config import StrictConfig


def _kind(reader: Any) -> Any:
    """The kind that a section names, before or after it was read."""
    return reader.get("kind") if isinstance(reader, Mapping) else getattr(reader, "kind", None)


ReaderConfig = Annotated[
    Annotated[BagOfWordsConfig, pydantic.Tag("bag_of_words")]
    | Annotated[CodeVectorsConfig, pydantic.Tag("code_vectors")]
    | Annotated[LocalModelConfig, pydantic.Tag("local_model")]
    | Annotated[EndpointConfig, pydantic.Tag("endpoint")],
    pydantic.Discriminator(
        _kind,
        custom_error_type="reader_kind",
        custom_error_message="kind must be bag_of_words, code_vectors, local_model or endpoint",
    ),
]
"""One reader, told by its kind."""


class RecognizeConfig(StrictConfig):
    """One run of `jobs/recognize.py`.

    Attributes:
        dataset: The token dataset; its own tokenizer says which words its tokens are.
        videos: Which of its videos are asked about, and which of their clips are read.
        labellings: What is to be told of them, one table each.
        episodes: How many classes, examples and questions.
        readers: Who answers, in the table's order; all answer the same episodes.
        episodes_per_part: Answers to so many episodes are kept together; a stopped run loses less
            than one such part.
        output: Local directory of answers, results and table.
    """

    dataset: DatasetConfig
    videos: VideosConfig = VideosConfig()
    labellings: tuple[LabellingConfig, ...]
    episodes: EpisodeConfig = EpisodeConfig()
    readers: tuple[ReaderConfig, ...]
    episodes_per_part: int = pydantic.Field(default=10, ge=1)
    output: str

    @pydantic.model_validator(mode="after")
    def _names_differ(self) -> RecognizeConfig:
        for key, names in (
            ("readers", [reader.label for reader in self.readers]),
            ("labellings", [labelling.label for labelling in self.labellings]),
        ):
            if not names:
                raise ValueError(f"{key} is empty: there is nothing to ask")
            doubled = {name for name in names if names.count(name) > 1}
            if doubled:
                raise ValueError(f"{key}: two are called {min(doubled)!r}; give each a name")
        return self
