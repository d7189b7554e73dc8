"""A corpus on paper: a manifest of videos that do not exist, and a dataset that has most of them.

Its rows are real rows in real data files; only their tokens mean nothing. What never opens a video,
as planning does, cannot tell the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset import Lineage, TokenDataset
from pipeline.dataset.schema import TOKEN_SCHEMA
from pipeline.records import fingerprint_digest, stable_id, video_digest
from sweettok.geometry import ClipGeometry

ROOT = "s3://corpus"
"""Where all the videos would be."""

_VIDEOS_PER_FILE = 10_000  # so many of a few clips each fill a file of the usual size
_NEW_EVERY = 1000
_TOKENS_PER_CLIP = 8  # planning never reads them


def num_new(num_videos: int) -> int:
    """How many of the manifest's videos the dataset lacks: every thousandth."""
    return num_videos // _NEW_EVERY


def write_manifest(path: Path, num_videos: int) -> None:
    """Writes a Parquet manifest with uri, size_bytes, etag, caption and split."""
    writer = None
    for numbers in _chunks(num_videos):
        rows = pa.table(
            {
                "uri": [_uri(number) for number in numbers],
                "size_bytes": [_size_bytes(number) for number in numbers],
                "etag": [_etag(number) for number in numbers],
                "caption": [
                    f"someone does thing {number} slowly in a garden" for number in numbers
                ],
                "split": ["train"] * len(numbers),
            }
        )
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    assert writer is not None, "num_videos is at least 1"
    writer.close()


def write_dataset(root: Path, num_videos: int, clips_per_video: int) -> None:
    """Writes a token dataset of all of the manifest's videos but every thousandth."""
    dataset = TokenDataset.create_or_open(root, synthetic_lineage())
    files = []
    for numbers in _chunks(num_videos):
        done = [number for number in numbers if number % _NEW_EVERY != _NEW_EVERY - 1]
        files.append(dataset.clips.write(_rows(done, clips_per_video)))
    dataset.clips.swap([], files, {"sweettok.run_id": "synthetic"})


@cache
def synthetic_lineage() -> Lineage:
    """The lineage of the dataset."""
    return Lineage(
        weights_hash="synthetic",
        codebook_hash="synthetic",
        geometry=ClipGeometry(num_frames=17, height_px=64, width_px=64),
        num_spatial_tokens=_TOKENS_PER_CLIP,
        num_temporal_tokens=_TOKENS_PER_CLIP,
        num_spatial_words=1024,
        num_temporal_words=1024,
        preprocessing={},
        clip_policy={},
        decoder="none",
        precision="fp32",
    )


def _chunks(num_videos: int) -> Iterator[range]:
    for start in range(0, num_videos, _VIDEOS_PER_FILE):
        yield range(start, min(start + _VIDEOS_PER_FILE, num_videos))


def _uri(number: int) -> str:
    return f"{ROOT}/videos/{number // 1000:06}/{number:09}.mp4"


def _size_bytes(number: int) -> int:
    return 1_000_000 + number


def _etag(number: int) -> str:
    return stable_id("etag", number)


def _rows(numbers: list[int], clips_per_video: int) -> pa.Table:
    video = np.repeat(np.arange(len(numbers)), clips_per_video)
    uris = [_uri(number) for number in numbers]
    # S3 writes an etag in quotes, and so does the fingerprint.
    fingerprints = [
        fingerprint_digest(_size_bytes(number), f'"{_etag(number)}"').hex() for number in numbers
    ]
    by_video = {
        "video_id": [video_digest(uri).hex() for uri in uris],
        "video_uri": uris,
        "video_fingerprint": fingerprints,
    }
    columns = {name: pa.array(values).take(pa.array(video)) for name, values in by_video.items()}
    index = np.tile(np.arange(clips_per_video, dtype=np.int32), len(numbers))
    columns["clip_index"] = pa.array(index)
    columns["clip_id"] = pa.array(
        [stable_id("clip", *place) for place in zip(video.tolist(), index.tolist(), strict=True)]
    )
    arrays = [
        columns[field.name] if field.name in columns else _filled(field.type, len(video))
        for field in TOKEN_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=TOKEN_SCHEMA)


def _filled(kind: pa.DataType, num_rows: int) -> pa.Array:
    if pa.types.is_list(kind):
        value: Any = [0] * _TOKENS_PER_CLIP
    else:
        value = "synthetic" if pa.types.is_string(kind) else 0
    return pa.repeat(pa.scalar(value, kind), num_rows)
