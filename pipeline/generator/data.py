"""From a token dataset to batches of sequences, and what they would cost without a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from pipeline.errors import DatasetError, PipelineError
from pipeline.generator.training_config import GeneratorTrainingConfig, TokenDataConfig
from pipeline.reading import LoaderConfig, OrderConfig, RowGroupCache, TokenBatch, TokenLoader
from pipeline.reading.loader import batches
from pipeline.reading.positions import Positions
from pipeline.reading.reader import TokenReader
from pipeline.sequences.vocabulary import SequenceVocabulary
from sweettok.tokens import Tokens

_LOOKED_AT_CLIPS = 200_000
_BATCH_CLIPS = 256


@dataclass(frozen=True)
class TokenSource:
    """Where sequences come from; small and picklable.

    Attributes:
        training: The clips to learn from, at a pinned version.
        held_out: The clips to look at.
        vocabulary: The layout of ids.
        class_column: Column with the classes.
    """

    training: TokenReader
    held_out: TokenReader
    vocabulary: SequenceVocabulary
    class_column: str | None

    @classmethod
    def open(cls, config: TokenDataConfig, version: int | None = None) -> TokenSource:
        """Opens the dataset, at `version` if the config names none.

        Raises:
            DatasetError: It cannot be read, or filters leave nothing.
        """
        columns = [] if config.class_column is None else [config.class_column]
        cache = None
        if config.cache_directory is not None:
            cache = RowGroupCache(config.cache_directory, config.cache_bytes)

        def reader(filters: Any, at: int | None) -> TokenReader:
            return TokenReader.open(
                config.dataset.uri,
                at,
                columns=columns,
                filters=filters,
                storage=config.dataset.storage,
                cache=cache,
            )

        training = reader(config.filters, config.version if version is None else version)
        held_out = training
        if config.validation_filters is not None:
            held_out = reader(config.validation_filters, training.version)
        names = training.class_names(config.class_column)
        vocabulary = SequenceVocabulary.of_lineage(training.lineage, names)
        return cls(training, held_out, vocabulary, config.class_column)

    def sequences(self, batch: TokenBatch) -> Int[Tensor, "b l"]:
        """The flat sequences of a batch, with their classes.

        Raises:
            SequenceError: A clip has a class that no training clip has.
        """
        classes = None
        if self.class_column is not None:
            classes = self.vocabulary.class_ids(batch.listed(self.class_column))
        return self.vocabulary.to_sequences(Tokens(batch.spatial, batch.temporal), classes)

    def loader(
        self, training: GeneratorTrainingConfig, order: OrderConfig, rank: int, world_size: int
    ) -> TokenLoader:
        """One worker's endless supply of batches.

        Raises:
            PipelineError: There are too few clips for one step.
        """
        order = order.model_copy(update={"seed": training.seed})
        batch_size = training.batch_size_per_worker
        if self.training.num_samples // world_size < batch_size:
            raise PipelineError(
                f"{self.training.num_samples} clips are too few for {world_size} workers with "
                f"batches of {batch_size}: lower training.batch_size_per_worker or "
                "workers.num_workers"
            )
        settings = LoaderConfig(batch_size=batch_size, drop_last=True, order=order)
        return TokenLoader(self.training, settings, rank=rank, world_size=world_size)

    def check_held_out_classes(self) -> None:
        """Finds here what would stop the run at its first evaluation.

        Raises:
            DatasetError: Held-out clips have a class that no training clip has.
        """
        found = self.held_out.class_names(self.class_column)
        unknown = [name for name in found if name not in self.vocabulary.class_names]
        if unknown:
            raise DatasetError(
                f"{self.held_out.uri}: held-out clips have the {self.class_column} {unknown[0]!r}, "
                "which no training clip has; change data.filters or data.validation_filters"
            )

    def num_held_out(self, max_clips: int) -> int:
        """How many held-out clips there are, at most `max_clips`."""
        return min(max_clips, self.held_out.num_samples)

    def held_out_sequences(self, clips: range, batch_size: int) -> Iterator[Int[Tensor, "b l"]]:
        """Some held-out clips by their numbers in the order of the files, as sequences."""
        return map(self.sequences, _in_file_order(self.held_out, clips, batch_size))

    def held_out_clips(self, max_clips: int) -> tuple[list[str], Int[Tensor, " n"]]:
        """The ids of the first held-out clips, and their classes' ids."""
        reader = replace(self.held_out, columns=(*self.held_out.columns, "clip_id"))
        clips = range(self.num_held_out(max_clips))
        batches = list(_in_file_order(reader, clips, _BATCH_CLIPS))
        clip_ids = [clip_id for batch in batches for clip_id in batch.listed("clip_id")]
        return clip_ids, torch.cat([self.sequences(batch)[:, 1] for batch in batches])

    def unigram_entropies(self) -> dict[str, float]:
        """What a token costs, in nats, if only the ids' frequencies are known.

        Spatial, temporal and all tokens; from the first 200,000 clips in a random order.
        """
        sizes = self.vocabulary
        counts = [np.zeros(sizes.num_spatial_words), np.zeros(sizes.num_temporal_words)]
        looked_at = Positions.first(min(_LOOKED_AT_CLIPS, self.training.num_samples))
        for _, samples in self.training.samples(looked_at, OrderConfig(), 0):
            for found, ids in zip(counts, (samples.spatial, samples.temporal), strict=True):
                found += np.bincount(ids.ravel(), minlength=len(found))
        spatial, temporal = map(_entropy, counts)
        num_spatial, num_temporal = sizes.num_spatial_tokens, sizes.num_temporal_tokens
        total = (spatial * num_spatial + temporal * num_temporal) / (num_spatial + num_temporal)
        return {"total": total, "spatial": spatial, "temporal": temporal}


def endless(loader: TokenLoader) -> Iterator[TokenBatch]:
    """The batches of all epochs, one after the other."""
    while True:
        yield from loader


def _in_file_order(reader: TokenReader, clips: range, batch_size: int) -> Iterator[TokenBatch]:
    settings = LoaderConfig(batch_size=batch_size, order=OrderConfig(shuffle=False))
    return batches(reader, Positions.of([(clips.start, clips.stop)]), settings, 0)


def lockstep_states(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The states of all ranks of a run, from one: in lockstep all have read equally much."""
    left = Positions.of(state["left"])
    count = len(Positions.of(state["consumed"]))
    shares = left.split(state["world_size"])
    return [
        {**state, "rank": rank, "consumed": share.slice(0, count).to_list()}
        for rank, share in enumerate(shares)
    ]


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return -math.fsum(shares * np.log(shares))
