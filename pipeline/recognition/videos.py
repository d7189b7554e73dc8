"""Labelled videos of a token dataset, and in how many of its clips each word occurs.

A video is one example: clips of one video would give each other away.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from jaxtyping import Int, Int64

from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError
from pipeline.reading.samples import TOKEN_COLUMNS, Samples
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)


class VideosConfig(StrictConfig):
    """Which videos are asked about.

    Attributes:
        where: Column and value, such as {split: test}: only videos whose clips have all of these;
            empty takes all. How common a word is, is counted over the whole dataset nevertheless.
        clips_per_video: So many clips of a video are read, spread evenly over it; all if it has
            fewer. One is its middle clip.
    """

    where: dict[str, str] = pydantic.Field(default_factory=dict)
    clips_per_video: int = pydantic.Field(default=1, ge=1)


class LabellingConfig(StrictConfig):
    """What is to be told of a video.

    Attributes:
        column: The user's column of the dataset that holds the class.
        name: What the tables call it; null takes the column.
        leave_out: Classes that are not asked for; videos without a value never are.
        spoken: What language models call a class whose own name is no good word ("dance_a").
    """

    column: str
    name: str | None = pydantic.Field(default=None, min_length=1)
    leave_out: tuple[str, ...] = ()
    spoken: dict[str, str] = pydantic.Field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the tables call it."""
        return self.name or self.column

    def spoken_name(self, label: str) -> str:
        """What language models call a class."""
        return self.spoken.get(label, label.replace("_", " "))


@dataclass(frozen=True, eq=False, repr=False)
class Video:
    """What the readers see of a video.

    Attributes:
        spatial, temporal: Ids of all tokens of its clips.
    """

    spatial: Int64[np.ndarray, " s"]
    temporal: Int64[np.ndarray, " m"]


@dataclass(frozen=True, eq=False, repr=False)
class LabelledVideos:
    """The videos of a dataset that may be asked about.

    Attributes:
        videos: Sorted by URI.
        uris: Of each.
        labels: Its value in each labelling's column, by the column; None where it has none.
        num_clips: Clips of the whole dataset.
        spatial_clips, temporal_clips: In how many of them each word occurs.
    """

    videos: tuple[Video, ...]
    uris: tuple[str, ...]
    labels: Mapping[str, tuple[str | None, ...]]
    num_clips: int
    spatial_clips: Int64[np.ndarray, " v"]
    temporal_clips: Int64[np.ndarray, " w"]

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that readers can learn from: tokens, labels, how common words are."""
        digest = hashlib.sha256()
        for video in self.videos:
            digest.update(video.spatial.tobytes() + b"|" + video.temporal.tobytes() + b"\n")
        for column in sorted(self.labels):
            digest.update(repr((column, self.labels[column])).encode())
        digest.update(self.spatial_clips.tobytes() + self.temporal_clips.tobytes())
        return digest.hexdigest()[:32]

    def by_class(self, labelling: LabellingConfig) -> dict[str, Int[np.ndarray, " n"]]:
        """Positions of the videos of each class, classes sorted by name."""
        found: dict[str, list[int]] = {}
        for position, label in enumerate(self.labels[labelling.column]):
            if label and label not in labelling.leave_out:
                found.setdefault(label, []).append(position)
        return {label: np.array(found[label], np.int64) for label in sorted(found)}


def read_videos(
    dataset: TokenDataset, config: VideosConfig, labellings: Sequence[LabellingConfig]
) -> LabelledVideos:
    """Reads the dataset once; only the clips of videos that may be asked about stay in memory.

    Raises:
        DatasetError: A column is not there, a stored clip is not what the lineage promises, clips
            of one video differ in their labels, or no video is left.
    """
    columns = list(dict.fromkeys(labelling.column for labelling in labellings))
    _check_columns(dataset, [*columns, *config.where])
    counts = _WordCounts(dataset.lineage.num_spatial_words, dataset.lineage.num_temporal_words)
    kept: list[Samples] = []
    wanted = dict.fromkeys([*TOKEN_COLUMNS, "video_uri", "clip_index", *columns, *config.where])
    for batch in dataset.rows(list(wanted)):
        if not batch.num_rows:
            continue
        samples = Samples.of_rows(pa.Table.from_batches([batch]), dataset.lineage, dataset.uri)
        counts.add(samples)
        chosen = _chosen_rows(samples.columns, config.where)
        if len(chosen):
            kept.append(samples.take(chosen))
    if not kept:
        raise DatasetError(
            f"{dataset.uri}: no clip of {counts.num_clips} fits videos.where {config.where}; "
            "give values that its columns hold"
        )
    clips = Samples.joined(kept)
    logger.info("%d clips of %d are of videos to ask about", len(clips), counts.num_clips)
    return _grouped(clips, columns, config.clips_per_video, counts, dataset.uri)


class _WordCounts:
    """Counts clips by the words that occur in them."""

    def __init__(self, num_spatial: int, num_temporal: int) -> None:
        self.spatial = np.zeros(num_spatial, np.int64)
        self.temporal = np.zeros(num_temporal, np.int64)
        self.num_clips = 0

    def add(self, samples: Samples) -> None:
        self.num_clips += len(samples)
        for counts, ids in ((self.spatial, samples.spatial), (self.temporal, samples.temporal)):
            clip = np.repeat(np.arange(len(ids)), ids.shape[1])
            pairs = np.unique(clip * len(counts) + ids.astype(np.int64).ravel())
            counts += np.bincount(pairs % len(counts), minlength=len(counts))


def _check_columns(dataset: TokenDataset, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in dataset.clips.schema.names:
            known = ", ".join(dataset.attribute_names) or "none of a user's own"
            raise DatasetError(
                f"{dataset.uri}: no column {column!r}, it has {known}; name one of them, or "
                "tokenize with it among source.manifests[].attributes"
            )


def _chosen_rows(columns: pa.Table, where: Mapping[str, str]) -> Int[np.ndarray, " k"]:
    chosen = np.ones(columns.num_rows, bool)
    for column, value in where.items():
        equal = pc.fill_null(pc.equal(columns[column].cast(pa.string()), value), False)
        chosen &= equal.to_numpy()
    return np.flatnonzero(chosen)


def _grouped(
    clips: Samples, columns: Sequence[str], clips_per_video: int, counts: _WordCounts, uri: str
) -> LabelledVideos:
    """Clips by video, in the order of their URIs and places."""
    keys = clips.columns.select(["video_uri", "clip_index"])
    keys = keys.append_column("row", pa.array(np.arange(len(clips))))
    order = keys.sort_by([("video_uri", "ascending"), ("clip_index", "ascending")])
    rows = order["row"].to_numpy()
    uris = np.array(order["video_uri"].to_pylist(), object)
    first = np.flatnonzero(np.r_[True, uris[1:] != uris[:-1]])
    values = {column: clips.columns[column].to_pylist() for column in columns}
    videos: list[Video] = []
    labels: dict[str, list[str | None]] = {column: [] for column in columns}
    for members in np.split(rows, first[1:]):
        read = members[_spread(len(members), clips_per_video)]
        ids = (clips.spatial[read].ravel(), clips.temporal[read].ravel())
        videos.append(Video(ids[0].astype(np.int64), ids[1].astype(np.int64)))
        for column in columns:
            labels[column].append(_one_label(values[column], members, column, uri))
    return LabelledVideos(
        tuple(videos),
        tuple(uris[first]),
        {column: tuple(found) for column, found in labels.items()},
        counts.num_clips,
        counts.spatial,
        counts.temporal,
    )


def _spread(num_clips: int, wanted: int) -> Int[np.ndarray, " k"]:
    """Positions of the middles of `wanted` equal stretches."""
    count = min(num_clips, wanted)
    return ((2 * np.arange(count) + 1) * num_clips) // (2 * count)


def _one_label(
    values: Sequence[str | None], members: Sequence[int] | np.ndarray, column: str, uri: str
) -> str | None:
    found = {values[row] for row in members}
    if len(found) > 1:
        raise DatasetError(
            f"{uri}: clips of one video differ in {column!r} "
            f"({', '.join(sorted(map(repr, found))[:3])}); a class is a video's, not a clip's"
        )
    label = found.pop()
    return None if label is None else str(label)
