"""Exports a pinned version of a token dataset: what `jobs/export_tokens.py` runs.

    format        what is written                               who reads it
    webdataset    shard-000000.tar …: arrays and JSON per clip   webdataset
    huggingface   data/train-00000-of-00012.parquet …            datasets.load_dataset(directory)
    megatron      tokens.bin, tokens.idx: sequences of ids       Megatron Core

Sequences are flat (one clip each) or interleaved (text and all clips of a video, in the vocabulary
of a language model). Whatever the format, the directory appears whole or not at all, and
`export.json` in it says what was exported and how ids are laid out.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pydantic
import torch
from jaxtyping import Int

from pipeline.dataset import DatasetConfig
from pipeline.errors import DatasetError
from pipeline.exports.huggingface import write_parquet_files
from pipeline.exports.megatron import MegatronWriter
from pipeline.exports.videos import interleaved_sequences
from pipeline.exports.webdataset import ExportedClip, write_shards
from pipeline.reading import LoaderConfig, OrderConfig, TokenBatch, TokenLoader, TokenReader
from pipeline.sequences import SequenceVocabulary
from pipeline.whole_files import new_directory
from sweettok import Tokens
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

_LOG_EVERY_S = 10.0
_BATCH_CLIPS = 512
_ALWAYS = ("clip_id", "video_uri", "clip_index", "start_s", "end_s")


class ExportConfig(StrictConfig):
    """One run of `jobs/export_tokens.py`.

    Attributes:
        dataset: The token dataset.
        version: The version to export; null: the latest.
        format: "webdataset", "huggingface" or "megatron".
        sequences: For "huggingface" and "megatron": "flat" sequences of single clips, "interleaved"
            ones of text and all clips of a video; "rows" (Hugging Face only) keeps the columns.
        columns: Further columns that are exported with every clip.
        filters: Which clips, as [[column, operator, value], …].
        class_column: Column whose values are the classes of flat sequences; null: no class.
        text_tokenizer: For interleaved sequences: directory of a language model's tokenizer.
        caption_column: For interleaved sequences: column with the text; null: none.
        max_length: Longest interleaved sequence, in ids; longer videos give several.
        order: In which order clips are exported; interleaved sequences need theirs unshuffled.
        clips_per_file: Clips (or sequences) of one shard or Parquet file.
        output: Local directory that does not exist yet, or is empty.
    """

    dataset: DatasetConfig
    version: int | None = pydantic.Field(default=None, ge=0)
    format: Literal["webdataset", "huggingface", "megatron"]
    sequences: Literal["rows", "flat", "interleaved"] = "rows"
    columns: tuple[str, ...] = ()
    filters: list[tuple[str, str, Any]] | None = None
    class_column: str | None = None
    text_tokenizer: str | None = None
    caption_column: str | None = None
    max_length: int = pydantic.Field(default=8192, ge=1)
    order: OrderConfig = OrderConfig(shuffle=False)
    clips_per_file: int = pydantic.Field(default=10_000, ge=1)
    output: str

    @pydantic.model_validator(mode="after")
    def _parts_fit(self) -> ExportConfig:
        if self.format == "megatron" and self.sequences == "rows":
            raise ValueError(
                "format megatron holds sequences: set sequences to flat or interleaved"
            )
        if self.format == "webdataset" and self.sequences != "rows":
            raise ValueError("format webdataset holds the tokens themselves: set sequences to rows")
        if self.sequences == "interleaved" and self.order.shuffle:
            raise ValueError(
                "interleaved sequences gather a video's clips: set order.shuffle false"
            )
        if (self.text_tokenizer is not None) != (self.sequences == "interleaved"):
            raise ValueError("text_tokenizer goes with interleaved sequences, and they need it")
        if self.class_column is not None and self.sequences != "flat":
            raise ValueError("class_column goes with flat sequences")
        if self.caption_column is not None and self.sequences != "interleaved":
            raise ValueError("caption_column goes with interleaved sequences")
        return self


@dataclass(frozen=True)
class ExportSummary:
    """What was exported.

    Attributes:
        output: The directory.
        version: Version of the dataset.
        num_clips: Clips read.
        num_items: Clips or sequences written.
        duration_s: Seconds it took.
    """

    output: str
    version: int
    num_clips: int
    num_items: int
    duration_s: float

    def line(self) -> str:
        """The summary for people."""
        return (
            f"{self.num_clips} clips of version {self.version} → {self.num_items} items in "
            f"{self.output} ({self.num_clips / max(self.duration_s, 1e-9):.0f} clips/s)"
        )


def export_tokens(config: ExportConfig) -> ExportSummary:
    """Writes the export.

    Raises:
        DatasetError: The dataset cannot be read, or the output directory holds something.
        SequenceError: A caption or a class does not fit.
    """
    began_s = time.monotonic()
    output = Path(config.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DatasetError(f"{output}: is there already; choose a directory that does not exist")
    reader = TokenReader.open(
        config.dataset.uri,
        config.version,
        columns=_columns(config),
        filters=config.filters,
        storage=config.dataset.storage,
    )
    vocabulary = SequenceVocabulary.of_lineage(
        reader.lineage, reader.class_names(config.class_column)
    )
    counter = _Counter(reader.num_samples)
    with new_directory(output) as directory:
        directory.mkdir(parents=True)
        num_items, layout = _write(config, directory, reader, vocabulary, counter)
        facts = {
            "dataset": reader.uri,
            "version": reader.version,
            "tokenizer_fingerprint": reader.lineage.fingerprint,
            "format": config.format,
            "sequences": config.sequences,
            "num_clips": counter.num_clips,
            "num_items": num_items,
            "vocabulary": layout,
        }
        (directory / "export.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    elapsed_s = time.monotonic() - began_s
    return ExportSummary(str(output), reader.version, counter.num_clips, num_items, elapsed_s)


def _write(
    config: ExportConfig,
    directory: Path,
    reader: TokenReader,
    vocabulary: SequenceVocabulary,
    counter: _Counter,
) -> tuple[int, dict[str, Any]]:
    """Writes all items; returns how many there are and how their ids are laid out."""
    batches = counter.counted(
        TokenLoader(reader, LoaderConfig(batch_size=_BATCH_CLIPS, ids="int64", order=config.order))
    )
    layout = vocabulary.to_mapping()
    if config.format == "webdataset":
        clips = (clip for batch in batches for clip in _clips(batch))
        write_shards(clips, directory, clips_per_shard=config.clips_per_file)
        return counter.num_clips, layout
    if config.sequences == "rows":
        rows = (_rows(batch) for batch in batches)
        return write_parquet_files(rows, directory, rows_per_file=config.clips_per_file), layout
    sequences: Iterator[Int[np.ndarray, " length"]]
    if config.sequences == "flat":
        num_ids = vocabulary.size
        sequences = (s for batch in batches for s in _flat(batch, vocabulary, config.class_column))
    else:
        sequences, num_ids, layout = interleaved_sequences(
            batches,
            vocabulary,
            str(config.text_tokenizer),
            config.caption_column,
            config.max_length,
        )
    if config.format == "megatron":
        return MegatronWriter(directory / "tokens", num_ids).write(sequences), layout
    tables = (_sequence_table(sequence) for sequence in sequences)
    return write_parquet_files(tables, directory, rows_per_file=config.clips_per_file), layout


class _Counter:
    """Counts clips on their way and says now and then how many there were."""

    def __init__(self, num_expected: int) -> None:
        self.num_clips = 0
        self._num_expected = num_expected
        self._logged_s = time.monotonic()

    def counted(self, batches: Iterable[TokenBatch]) -> Iterator[TokenBatch]:
        for batch in batches:
            self.num_clips += len(batch)
            if time.monotonic() - self._logged_s > _LOG_EVERY_S:
                self._logged_s = time.monotonic()
                logger.info("%d of %d clips exported", self.num_clips, self._num_expected)
            yield batch


def _columns(config: ExportConfig) -> list[str]:
    named = (config.class_column, config.caption_column)
    return [*_ALWAYS, *(name for name in named if name is not None), *config.columns]


def _clips(batch: TokenBatch) -> Iterator[ExportedClip]:
    columns = batch.listed_columns()
    spatial, temporal = (ids.to(torch.int16).numpy() for ids in (batch.spatial, batch.temporal))
    for number, clip_id in enumerate(columns["clip_id"]):
        others = {name: values[number] for name, values in columns.items()}
        yield ExportedClip(clip_id, spatial[number], temporal[number], others)


def _rows(batch: TokenBatch) -> pa.Table:
    arrays: dict[str, Any] = dict(batch.listed_columns())
    for name, ids in (("spatial_tokens", batch.spatial), ("temporal_tokens", batch.temporal)):
        arrays[name] = pa.array(list(ids.to(torch.int16).numpy()), pa.list_(pa.int16()))
    return pa.table(arrays)


def _flat(
    batch: TokenBatch, vocabulary: SequenceVocabulary, class_column: str | None
) -> Iterator[Int[np.ndarray, " length"]]:
    classes = None
    if class_column is not None:
        classes = vocabulary.class_ids(batch.listed(class_column))
    tokens = Tokens(batch.spatial, batch.temporal)
    yield from vocabulary.to_sequences(tokens, classes).numpy()


def _sequence_table(sequence: Int[np.ndarray, " length"]) -> pa.Table:
    return pa.table({"input_ids": pa.array([sequence.astype(np.int32)], pa.list_(pa.int32()))})
