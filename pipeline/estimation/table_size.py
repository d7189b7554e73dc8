"""How many bytes the rows of a corpus take: a sample of them, written into memory and let go.

Clips of the sample that were not encoded get ids drawn from those that were: compression sees
how often each id comes, not which clip it belongs to.
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
from pipeline.records import TokenizedClip


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
    videos: Sequence[SampledVideo], encoded: Sequence[TokenizedClip], lineage: Lineage, seed: int
) -> TableSize:
    """Writes the sample's rows into memory and looks at what they take.

    Args:
        videos: The sample.
        encoded: Clips of it that were encoded; at least one.
        lineage: The dataset's.
        seed: Seed of the ids of the other clips.
    """
    random = np.random.default_rng([seed, 2])
    known = {clip.clip_id: clip for clip in encoded}
    spatial = np.concatenate([clip.spatial_tokens for clip in encoded])
    temporal = np.concatenate([clip.temporal_tokens for clip in encoded])

    def clip_of(video: SampledVideo, place: int) -> TokenizedClip:
        assert video.source is not None
        ids = (
            random.choice(spatial, lineage.num_spatial_tokens),
            random.choice(temporal, lineage.num_temporal_tokens),
        )
        drawn = TokenizedClip(video.unit, video.windows[place], video.source, *ids)
        return known.get(drawn.clip_id, drawn)

    units = [
        CompletedUnit(
            replace(video.unit, part_index=0, num_parts=1),
            tuple(clip_of(video, place) for place in range(len(video.windows))),
            None,
        )
        for video in videos
        if video.windows and video.reason is None
    ]
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
