"""Training clips from videos, through Ray Data: the decode stage of tokenizing, nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import ray.data
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.decoding.cutting import CutSettings
from pipeline.engine import DecodeSpec, EngineConfig, decode_on_ray
from pipeline.errors import SourceError
from pipeline.listing import list_videos
from pipeline.records import Clip, UnitEnd, WorkUnit
from pipeline.training.config import DataConfig
from pipeline.transport import records_to_table, table_to_records
from sweettok.geometry import ClipGeometry

logger = logging.getLogger(__name__)


def training_clips(config: DataConfig, geometry: ClipGeometry) -> ray.data.Dataset:
    """A Ray dataset of clip messages for all readable videos of the source.

    Raises:
        SourceError: No video matches, or (with `keep_in_object_store`) none gives a clip.
    """
    units = [WorkUnit.from_listed(video) for video in list_videos(config.source)]
    spec = DecodeSpec(
        CutSettings(config.decode, config.clips, config.preprocess, geometry),
        config.source.storage,
    )
    rows = decode_on_ray(units, spec, EngineConfig()).map_batches(
        _clips_only, batch_format="pyarrow", batch_size=None
    )
    if not config.keep_in_object_store:
        return rows
    rows = rows.materialize()
    num_clips = rows.count()
    if not num_clips:
        raise SourceError(
            f"none of the {len(units)} videos of {', '.join(config.source.uris)} gave a training "
            "clip; see the warnings above, or lower data.clips.min_frames"
        )
    logger.info("%d training clips from %d videos in the object store", num_clips, len(units))
    return rows


def training_batches(
    shard: ray.data.DataIterator, config: DataConfig, *, batch_size: int, seed: int
) -> Iterator[UInt8[Tensor, "b t h w c"]]:
    """One epoch of shuffled, augmented batches of this worker; `seed` decides both.

    The last batch of an epoch is left out if it is not full, unless it is the only one.
    """
    generator = np.random.default_rng(seed)
    tables = shard.iter_batches(
        batch_size=batch_size,
        batch_format="pyarrow",
        local_shuffle_buffer_size=max(batch_size, config.shuffle_buffer_clips),
        local_shuffle_seed=seed,
    )
    given = 0
    for table in tables:
        clips = [record for record in table_to_records(table) if isinstance(record, Clip)]
        if given and len(clips) < batch_size:
            continue
        given += 1
        frames = np.stack([clip.frames for clip in clips])
        if config.horizontal_flip:
            mirrored = generator.random(len(frames)) < 0.5
            frames[mirrored] = frames[mirrored, :, :, ::-1]
        yield torch.from_numpy(frames)


def _clips_only(table: pa.Table) -> pa.Table:
    """Keeps the clips of readable videos; a video that failed is named in the log."""
    clips = []
    for record in table_to_records(table):
        if isinstance(record, Clip):
            clips.append(record)
        elif isinstance(record, UnitEnd) and record.quarantine is not None:
            logger.warning(
                "%s gives no (more) training clips: %s", record.unit.uri, record.quarantine.message
            )
    return records_to_table(clips)
