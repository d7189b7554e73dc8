"""The whole run: videos, episodes, every reader's answers, the table."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.dataset import TokenDataset
from pipeline.recognition.accuracy import Accuracy, accuracy
from pipeline.recognition.answers import AnswerStore, slug
from pipeline.recognition.config import ReaderConfig, RecognizeConfig
from pipeline.recognition.episodes import EpisodeSource
from pipeline.recognition.readers import Reader, Readers
from pipeline.recognition.tables import markdown, reader_lines
from pipeline.recognition.videos import LabelledVideos, LabellingConfig, read_videos
from pipeline.recognition.words import WordTables
from pipeline.records import stable_id
from pipeline.whole_files import replace_file
from sweettok.model import SweetTok

logger = logging.getLogger(__name__)

RESULT_FILE, TABLE_FILE, CONFIG_FILE = "result.json", "table.md", "config.yaml"
_FORMAT_VERSION = 1  # of the result
_HASH_CHARACTERS = 12
_LOG_EVERY_S = 10.0


@dataclass(frozen=True)
class Recognition:
    """What a run gave.

    Attributes:
        result: All numbers, as `result.json` holds them.
        table: The same as Markdown.
        lines: One for each labelling and reader.
        directory: Where everything lies.
    """

    result: dict[str, Any]
    table: str
    lines: Sequence[str]
    directory: Path


def recognize(config: RecognizeConfig) -> Recognition:
    """Asks every reader what was not asked before, and writes result and table.

    Raises:
        DatasetError: The dataset is not there, lacks a column, or has too few labelled videos.
        PipelineError: A reader cannot work.
        TransientError: A server did not answer; the same command continues.
    """
    dataset = TokenDataset.open(config.dataset.uri, storage=config.dataset.storage)
    videos = read_videos(dataset, config.videos, config.labellings)
    model = SweetTok.from_pretrained(dataset.tokenizer_files())
    readers = Readers(videos.videos, WordTables.of(model, videos))
    result = {
        "format_version": _FORMAT_VERSION,
        "protocol": {
            "videos": config.videos.to_mapping(),
            "episodes": config.episodes.to_mapping(),
            "labellings": [labelling.to_mapping() for labelling in config.labellings],
        },
        "sample": {
            "num_videos": len(videos),
            "num_clips": videos.num_clips,
            "fingerprint": videos.fingerprint,
            "dataset": dataset.uri,
            "dataset_version": dataset.version,
            "tokenizer": dataset.lineage.weights_hash,
        },
        "labellings": [
            _labelling_result(config, labelling, videos, readers) for labelling in config.labellings
        ],
    }
    return _written(config, result)


def _labelling_result(
    config: RecognizeConfig, labelling: LabellingConfig, videos: LabelledVideos, readers: Readers
) -> dict[str, Any]:
    source = EpisodeSource(videos.by_class(labelling), config.episodes, labelling.label)
    recipe = stable_id("recognition", videos.fingerprint, labelling.column, source.identity)
    directory = Path(config.output) / "answers" / recipe[:_HASH_CHARACTERS]
    rows = []
    for reader_config in config.readers:
        reader = readers.make(reader_config, labelling)
        asker = _Asker(config, labelling, source, reader_config, reader, directory)
        cells = [{"shots": shots, **asker.ask(shots).to_mapping()} for shots in asker.shots]
        rows.append(
            {
                "name": reader_config.label,
                "kind": reader_config.kind,
                "identity": reader.identity,
                "facts": dict(reader.facts),
                "shots": cells,
                "example": reader.example(source.draw(config.episodes.shots[0], 0)),
            }
        )
    return {
        "name": labelling.label,
        "classes": {label: len(found) for label, found in source.by_class.items()},
        "left_out": source.left_out,
        "readers": rows,
    }


@dataclass(frozen=True)
class _Asker:
    """Asks one reader about one labelling."""

    config: RecognizeConfig
    labelling: LabellingConfig
    source: EpisodeSource
    reader_config: ReaderConfig
    reader: Reader
    directory: Path

    @property
    def shots(self) -> tuple[int, ...]:
        return self.config.episodes.shots

    def ask(self, shots: int) -> Accuracy:
        """How often the reader is right with so many examples of each class."""
        drawn = self.config.episodes
        store = AnswerStore.of_reader(
            self.directory / f"{slug(self.labelling.label)}-{shots}_shot",
            self.reader_config.label,
            self.reader.identity,
            episodes_per_part=self.config.episodes_per_part,
            num_questions=drawn.num_ways * drawn.queries_per_class,
        )

        def answer(number: int) -> Sequence[int | None]:
            return self.reader.answer(self.source.draw(shots, number))

        told_s = time.monotonic()

        def progress(num_done: int) -> None:
            nonlocal told_s
            if time.monotonic() - told_s > _LOG_EVERY_S:
                told_s = time.monotonic()
                name = f"{self.labelling.label}, {self.reader_config.label}, {shots}-shot"
                logger.info("%s: %d of %d episodes", name, num_done, drawn.num_episodes)

        answers = store.collect(drawn.num_episodes, answer, progress)
        episodes = [self.source.draw(shots, number) for number in range(drawn.num_episodes)]
        return accuracy(answers, episodes, drawn.chance)


def _written(config: RecognizeConfig, result: dict[str, Any]) -> Recognition:
    output = Path(config.output)
    table = markdown(result)
    replace_file(output / CONFIG_FILE, config.to_yaml().encode())
    replace_file(output / TABLE_FILE, table.encode())
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    replace_file(output / RESULT_FILE, text.encode())
    return Recognition(result, table, reader_lines(result), output)
