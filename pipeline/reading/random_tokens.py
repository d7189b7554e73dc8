"""A token dataset of random ids, in the project's own format, for measuring how fast it is read."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pydantic

from pipeline.dataset import Lineage, TokenDataset
from pipeline.records import stable_id
from sweettok.geometry import ClipGeometry
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

_NUM_WORDS = 10_000
_CLIPS_PER_VIDEO = 10


class RandomTokensConfig(StrictConfig):
    """The dataset that is read.

    Attributes:
        directory: Beginning of its path; what is in it follows, so that each is made once and kept.
        num_clips: Clips of the dataset.
        num_spatial_tokens, num_temporal_tokens: Tokens of each.
        clips_per_file: Clips of each data file.
    """

    directory: str = "runs/benchmark_reader/tokens"
    num_clips: int = pydantic.Field(default=1_000_000, ge=1)
    num_spatial_tokens: int = pydantic.Field(default=64, ge=1)
    num_temporal_tokens: int = pydantic.Field(default=64, ge=0)
    clips_per_file: int = pydantic.Field(default=100_000, ge=1)

    @property
    def num_tokens(self) -> int:
        """Tokens of a clip."""
        return self.num_spatial_tokens + self.num_temporal_tokens

    @property
    def root(self) -> str:
        """Path of the dataset."""
        tokens = f"{self.num_spatial_tokens}-{self.num_temporal_tokens}"
        return f"{self.directory}-{self.num_clips}-{tokens}-{self.clips_per_file}"


def make_random_tokens(config: RandomTokensConfig) -> None:
    """Makes the dataset in one commit, unless it is there."""
    dataset = TokenDataset.create_or_open(config.root, _lineage(config))
    if dataset.num_clips() == config.num_clips:
        return
    logger.info("making %d clips in %s", config.num_clips, config.root)
    files = []
    for first in range(0, config.num_clips, config.clips_per_file):
        count = min(config.clips_per_file, config.num_clips - first)
        files.append(dataset.clips.write(_rows(config, first, count, dataset.clips.schema)))
    dataset.clips.swap([], files, {})


def _rows(config: RandomTokensConfig, first: int, count: int, schema: pa.Schema) -> pa.Table:
    random = np.random.default_rng(first)
    columns: dict[str, pa.Array] = {}
    for name, width in (
        ("spatial_tokens", config.num_spatial_tokens),
        ("temporal_tokens", config.num_temporal_tokens),
    ):
        ids = random.integers(0, _NUM_WORDS, count * width, dtype=np.int16)
        offsets = np.arange(count + 1, dtype=np.int32) * width
        kind = schema.field(name).type
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(ids), type=kind)
    numbers = range(first, first + count)
    videos = [number // _CLIPS_PER_VIDEO for number in numbers]
    columns["clip_id"] = pa.array([stable_id("benchmark", number) for number in numbers])
    columns["video_id"] = pa.array([stable_id("benchmark video", video) for video in videos])
    columns["video_uri"] = pa.array([f"file:///videos/{video:08}.mp4" for video in videos])
    columns["video_fingerprint"] = pa.array(["f" * 32] * count)
    columns["clip_index"] = pa.array([n % _CLIPS_PER_VIDEO for n in numbers], pa.int32())
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _lineage(config: RandomTokensConfig) -> Lineage:
    return Lineage(
        weights_hash="benchmark",
        codebook_hash="benchmark",
        geometry=ClipGeometry(),
        num_spatial_tokens=config.num_spatial_tokens,
        num_temporal_tokens=config.num_temporal_tokens,
        num_spatial_words=_NUM_WORDS,
        num_temporal_words=_NUM_WORDS,
        preprocessing={},
        clip_policy={},
        decoder="none",
        precision="fp32",
    )
