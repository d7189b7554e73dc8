"""How many bytes the rows of a corpus take: a sample of them, written into memory and let go.

The sample's videos are written as often, under other names, as the corpus needs to come to its
size (or to a whole row group), for a file of few rows is mostly about itself. Their clips get ids
drawn from those that were encoded: compression sees how often each id comes, not in which clip.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.assembly import CompletedUnit
from pipeline.dataset.data_files import ROW_GROUP_ROWS, write_content
from pipeline.dataset.lineage import Lineage
from pipeline.dataset.rows import token_rows
from pipeline.estimation.measuring import SampledVideo
from pipeline.records import TokenizedClip, stable_id


@dataclass(frozen=True)
class TableSize:
    """What rows take in data files.

    Attributes:
        bytes_per_clip: Compressed columns.
        bytes_per_row_group: What a file says about each of its row groups, and about itself.
    """

    bytes_per_clip: float
    bytes_per_row_group: float

    def file_bytes(self, num_clips: float) -> float:
        """Data files of so many clips, in bytes."""
        num_groups = -(-num_clips // ROW_GROUP_ROWS)
        return num_clips * self.bytes_per_clip + num_groups * self.bytes_per_row_group


def measure_table(
    videos: Sequence[SampledVideo],
    encoded: Sequence[TokenizedClip],
    lineage: Lineage,
    *,
    num_clips: float,
    seed: int,
) -> TableSize:
    """Writes the sample's rows into memory and looks at what they take.

    Args:
        videos: The sample.
        encoded: Clips of it that were encoded; at least one.
        lineage: The dataset's.
        num_clips: Clips of the whole corpus.
        seed: Seed of the ids.
    """
    random = np.random.default_rng([seed, 2])
    spatial = np.concatenate([clip.spatial_tokens for clip in encoded])
    temporal = np.concatenate([clip.temporal_tokens for clip in encoded])

    def renamed(video: SampledVideo, number: int) -> CompletedUnit:
        assert video.source is not None
        unit = replace(
            video.unit,
            video_id=stable_id(video.unit.video_id, number),
            uri=f"{video.unit.uri}{number:06d}",
            fingerprint=stable_id(video.unit.fingerprint, number),
            part_index=0,
            num_parts=1,
        )
        clips = []
        for window in video.windows:
            ids = (
                random.choice(spatial, lineage.num_spatial_tokens),
                random.choice(temporal, lineage.num_temporal_tokens),
            )
            clips.append(TokenizedClip(unit, window, video.source, *ids))
        return CompletedUnit(unit, tuple(clips), None)

    whole = [video for video in videos if video.windows and video.reason is None]
    num_wanted = min(num_clips, ROW_GROUP_ROWS)
    num_rows = sum(len(video.windows) for video in whole)
    num_copies = max(1, round(num_wanted / num_rows))
    units = [renamed(video, number) for number in range(num_copies) for video in whole]
    return _size_of(token_rows(units, lineage, "0" * len("20260101T000000Z-00000000")))


def _size_of(rows: pa.Table) -> TableSize:
    file = io.BytesIO()
    write_content(rows, file)
    num_bytes = file.tell()
    found = pq.read_metadata(file)
    return TableSize(
        (num_bytes - found.serialized_size) / rows.num_rows,
        found.serialized_size / found.num_row_groups,
    )
