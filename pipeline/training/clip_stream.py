"""Training clips straight from videos, through Ray Data: decoded anew in every epoch.

Which clip comes when depends on which video is decoded first, so this order is not reproducible,
and a restored run begins its epoch again. Runs that must be exact train from a frame cache.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator, Iterator, Sequence

import numpy as np
import pyarrow as pa
import ray.data
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.clips import ClipConfig
from pipeline.engine import EngineConfig, decode_on_ray
from pipeline.errors import SourceError
from pipeline.records import Clip, UnitEnd, WorkUnit
from pipeline.training.augmentation import NUM_DRAWS, StoredClips, copy_view, random_views
from pipeline.training.data_config import DataConfig
from pipeline.training.frame_recipe import FrameRecipe
from pipeline.training.prefetching import prefetched
from pipeline.training.whole_frames import clip_spec
from pipeline.transport import records_to_table, table_to_records
from sweettok.geometry import ClipGeometry

logger = logging.getLogger(__name__)


def streamed_windows(
    units: Sequence[WorkUnit], config: DataConfig, geometry: ClipGeometry
) -> ray.data.Dataset:
    """A lazy Ray dataset of clip messages: longer and larger than the clips cut from them.

    Each message holds the frames that any random clip of its grid position may show; at the end of
    a video it may be padded, which its window says.
    """
    recipe = FrameRecipe.for_training(config, geometry)
    num_frames = config.augmentation.window_frames(
        geometry.num_frames, _hop_frames(config, geometry)
    )
    clips = _window_config(config, geometry)
    spec = clip_spec(recipe, clips, num_frames, config.decode, config.source.storage)
    return decode_on_ray(units, spec, EngineConfig()).map_batches(
        _clips_only, batch_format="pyarrow", batch_size=None
    )


class StreamedClips:
    """Shuffled, augmented batches of one worker's shard of `streamed_windows`."""

    def __init__(
        self,
        shard: ray.data.DataIterator,
        config: DataConfig,
        geometry: ClipGeometry,
        *,
        window_geometry: ClipGeometry,
        seed: int,
        batch_size: int,
        rank: int,
    ) -> None:
        """Prepares reading.

        Args:
            geometry: Size of the clips; may have fewer frames than `window_geometry`.
            window_geometry: What `streamed_windows` was told.
        """
        assert geometry.num_frames <= window_geometry.num_frames, "refused by TrainConfig"
        # Wherever it fits: a clip that is shorter, or shows fewer frames apart, than the window
        # was cut for may begin later in it. At the end of a video no other window holds it.
        self._reach_frames = config.augmentation.window_frames(
            window_geometry.num_frames, _hop_frames(config, window_geometry)
        )
        self._shard, self._config, self._geometry = shard, config, geometry
        self._seed, self._rank, self._batch_size = seed % 2**63, rank, batch_size

    def batches(
        self, first_step: int, num_batches: int
    ) -> Generator[UInt8[Tensor, "b t h w c"], None, None]:
        """See `ClipSource.batches`.

        Not one batch more is read: all workers begin an epoch of the stream together, and one that
        read ahead into an epoch that the others never begin would wait for them for ever.

        Raises:
            SourceError: An epoch gave this worker no clip at all.
        """
        return prefetched(self._read(first_step, num_batches), self._config.prefetch_batches)

    def _read(
        self, first_step: int, num_batches: int
    ) -> Generator[UInt8[Tensor, "b t h w c"], None, None]:
        waiting: list[Clip] = []
        num_left = num_batches
        for epoch in itertools.count():
            generator = np.random.default_rng((self._seed, first_step, epoch, self._rank))
            is_empty = True
            for clip in self._epoch(int(generator.integers(2**31))):
                is_empty = False
                waiting.append(clip)
                if len(waiting) == self._batch_size:
                    yield torch.from_numpy(self._augmented(waiting, generator))
                    waiting = []
                    num_left -= 1
                    if not num_left:
                        return
            if is_empty:
                raise SourceError(
                    "this worker got no training clip; see the warnings above, use fewer workers "
                    "or lower data.clips.min_frames"
                )

    def _epoch(self, shuffle_seed: int) -> Iterator[Clip]:
        tables = self._shard.iter_batches(
            batch_size=self._batch_size,
            batch_format="pyarrow",
            local_shuffle_buffer_size=max(self._batch_size, self._config.shuffle_buffer_clips),
            local_shuffle_seed=shuffle_seed,
        )
        for table in tables:
            for record in table_to_records(table):
                assert isinstance(record, Clip)
                yield record

    def _augmented(
        self, windows: list[Clip], generator: np.random.Generator
    ) -> UInt8[np.ndarray, "b t h w 3"]:
        geometry = self._geometry
        num_real = [len(clip.frames) - clip.window.num_padded_frames for clip in windows]
        sizes = np.array([clip.frames.shape[1:3] for clip in windows])
        stored = StoredClips(np.zeros(len(windows), np.int64), np.array(num_real), *sizes.T)
        views = random_views(
            stored,
            generator.random((len(windows), NUM_DRAWS)),
            geometry,
            self._reach_frames,
            self._config.augmentation,
        )
        shape = (geometry.num_frames, geometry.height_px, geometry.width_px, 3)
        clips = np.empty((len(windows), *shape), np.uint8)
        for row, (window, clip) in enumerate(zip(windows, clips, strict=True)):
            # What follows the real frames of a window repeats the last one already.
            copy_view(window.frames, 0, views, row, clip)
        return clips


def _hop_frames(config: DataConfig, geometry: ClipGeometry) -> int:
    return config.clips.hop_frames or geometry.num_frames


def _window_config(config: DataConfig, geometry: ClipGeometry) -> ClipConfig:
    """How windows are cut so that every clip of the grid lies in one.

    Padding keeps a video's last window; it must hold a whole clip, unless clips are padded too.
    """
    clips = config.clips
    least = 1 if clips.tail == "pad" else geometry.num_frames
    return clips.model_copy(
        update={
            "hop_frames": _hop_frames(config, geometry),
            "tail": "pad",
            "min_frames": max(clips.min_frames, least),
        }
    )


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
