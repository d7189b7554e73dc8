"""The tokens of the sides: whether they are the same ones, and how small they lie on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
import pyarrow.parquet as pq

from pipeline.dataset import TokenDataset
from pipeline.records import TokenizedClip

ClipTokens: TypeAlias = dict[tuple[str, int], bytes]
"""Ids of every clip, spatial before temporal, by the video's URI and the clip's number."""

_LIST = pa.list_(pa.field("element", pa.int16()))
TOKEN_COLUMNS = pa.schema(
    [
        ("video_uri", pa.string()),
        ("clip_index", pa.int32()),
        ("spatial_tokens", _LIST),
        ("temporal_tokens", _LIST),
    ]
)
_TOKENS = ("spatial_tokens", "temporal_tokens")


@dataclass(frozen=True)
class DiskFigures:
    """How small the tokens of a dataset are.

    Attributes:
        num_clips: Clips in it.
        file_bytes_per_clip: Bytes of the data files per clip, all columns.
        token_bytes_per_clip: Bytes of the two token columns alone.
        entropy_bytes_per_clip: Empirical entropy of the ids, each codebook and position alike.
        bound_bytes_per_clip: What as many ids of equal frequency would need.
    """

    num_clips: int
    file_bytes_per_clip: float
    token_bytes_per_clip: float
    entropy_bytes_per_clip: float
    bound_bytes_per_clip: float


def tokens_table(clips: Iterable[TokenizedClip]) -> pa.Table:
    """Tokens as rows of `TOKEN_COLUMNS`."""
    rows = list(clips)
    return pa.table(
        {
            "video_uri": [clip.unit.uri for clip in rows],
            "clip_index": [clip.window.clip_index for clip in rows],
            "spatial_tokens": [clip.spatial_tokens for clip in rows],
            "temporal_tokens": [clip.temporal_tokens for clip in rows],
        },
        schema=TOKEN_COLUMNS,
    )


def write_tokens(path: Path, clips: Iterable[TokenizedClip]) -> None:
    """Writes tokens at once, as a script does at its end."""
    pq.write_table(tokens_table(clips), path)


def side_tokens(directory: Path) -> ClipTokens:
    """What a side left in its directory: a dataset, one file, or a folder of files."""
    if (directory / "tokens").is_dir():
        rows = TokenDataset.open(directory / "tokens").rows(TOKEN_COLUMNS.names).read_all()
    else:
        paths = sorted(map(str, directory.glob("**/*.parquet")))
        if not paths:
            return {}
        rows = pa_dataset.dataset(paths, schema=TOKEN_COLUMNS).to_table()
    return _by_clip(rows)


def _by_clip(rows: pa.Table) -> ClipTokens:
    uris, indices = rows["video_uri"].to_pylist(), rows["clip_index"].to_pylist()
    spatial, temporal = (rows[name].to_pylist() for name in _TOKENS)
    return {
        (uri, index): np.array([*first, *second], np.int16).tobytes()
        for uri, index, first, second in zip(uris, indices, spatial, temporal, strict=True)
    }


def equal_share(tokens: ClipTokens, yardstick: ClipTokens) -> float:
    """Share of the clips of `tokens` whose every id is that of the yardstick, in [0, 1]."""
    if not tokens:
        return 0.0
    return sum(yardstick.get(clip) == ids for clip, ids in tokens.items()) / len(tokens)


def disk_figures(root: Path) -> DiskFigures:
    """Measures the data files of the dataset at `root`."""
    dataset = TokenDataset.open(root)
    sizes = dataset.clips.file_sizes()
    rows = dataset.rows(list(_TOKENS)).read_all()
    num_clips = max(rows.num_rows, 1)
    entropy_bits, bound_bits = 0.0, 0.0
    words = (dataset.lineage.num_spatial_words, dataset.lineage.num_temporal_words)
    for name, num_words in zip(_TOKENS, words, strict=True):
        ids = pc.list_flatten(rows[name]).to_numpy()
        entropy_bits += len(ids) * _entropy_bits(ids)
        bound_bits += len(ids) * float(np.log2(num_words))
    return DiskFigures(
        rows.num_rows,
        sum(sizes.values()) / num_clips,
        sum(_token_bytes(root / path) for path in sizes) / num_clips,
        entropy_bits / 8 / num_clips,
        bound_bits / 8 / num_clips,
    )


def _entropy_bits(ids: np.ndarray) -> float:
    if not len(ids):
        return 0.0
    frequencies = np.unique(ids, return_counts=True)[1] / len(ids)
    return float(-(frequencies * np.log2(frequencies)).sum())


def _token_bytes(path: Path) -> int:
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    return sum(
        column.total_compressed_size
        for column in columns
        if column.path_in_schema.split(".")[0] in _TOKENS
    )
