"""From settings to clips: the driver lists, splits and decodes; every worker opens its part."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import ray.data

from pipeline.errors import SourceError
from pipeline.records import WorkUnit, stable_id
from pipeline.sources import SourceConfig, list_videos
from pipeline.training.clip_sampler import ClipSampler, training_grid
from pipeline.training.clip_source import CachedClips, ClipSource
from pipeline.training.clip_stream import StreamedClips, streamed_windows
from pipeline.training.data_config import CacheConfig, DataConfig
from pipeline.training.evaluation_clips import EvaluationClips
from pipeline.training.frame_cache import FrameCache, FrameIndex, ensure_local
from pipeline.training.frame_cache_building import ensure_frame_cache
from pipeline.training.frame_recipe import FrameRecipe
from pipeline.training.whole_frames import segment_spec
from sweettok.geometry import ClipGeometry
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)


class SplitUnits(NamedTuple):
    """The listed videos, sorted by URI; none is in both parts.

    Attributes:
        training: Those to train on.
        held_out: Those to evaluate on.
    """

    training: list[WorkUnit]
    held_out: list[WorkUnit]


class PreparedData(StrictConfig):
    """What workers need to open their clips: settings and places, no pixels.

    Attributes:
        config: The settings.
        geometry: Size of the model's own video clips.
        training_cache, validation_cache: URIs of the caches, where there are any.
        fingerprints: Hashes of the cached frames, "training" and "held-out", where there are any.
    """

    config: DataConfig
    geometry: ClipGeometry
    training_cache: str | None
    validation_cache: str | None
    fingerprints: dict[str, str]

    def ray_datasets(self, units: SplitUnits) -> dict[str, ray.data.Dataset]:
        """What Ray Train has to split over the workers: the stream, or nothing with a cache."""
        if self.training_cache is not None:
            return {}
        return {"train": streamed_windows(units.training, self.config, self.geometry)}

    def clip_source(
        self,
        geometry: ClipGeometry,
        *,
        seed: int,
        batch_size: int,
        rank: int,
        world_size: int,
        shard: ray.data.DataIterator | None = None,
    ) -> ClipSource:
        """The training batches of one worker.

        Args:
            geometry: Size of the clips; `num_frames` may be 1, for images.
            batch_size: Clips per step of this worker.
            shard: This worker's part of `ray_datasets(…)["train"]`; with a cache None.

        Raises:
            SourceError: There is no clip of this geometry.
        """
        if self.training_cache is None:
            assert shard is not None, "a stream needs its shard"
            return StreamedClips(
                shard,
                self.config,
                geometry,
                window_geometry=self.geometry,
                seed=seed,
                batch_size=batch_size,
                rank=rank,
            )
        cache = _open(self.training_cache, self.config.cache)
        sampler = ClipSampler(
            cache,
            self.config,
            geometry,
            seed=seed,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
        )
        return CachedClips(sampler, self.config.prefetch_batches)

    def evaluation_clips(self, geometry: ClipGeometry) -> EvaluationClips | None:
        """The held-out clips, the same for every worker; None if none are held out."""
        validation = self.config.validation
        if validation is None or self.validation_cache is None:
            return None
        cache = _open(self.validation_cache, self.config.validation_cache)
        return EvaluationClips(cache, self.config.clips, geometry, validation.max_clips)


def prepare_data(
    config: DataConfig,
    units: SplitUnits,
    geometry: ClipGeometry,
    training_geometries: Iterable[ClipGeometry] | None = None,
) -> PreparedData:
    """Makes the frame caches that are not there yet, and looks whether they hold what is wanted.

    Call it in the driver, connected to Ray.

    Args:
        config: The settings.
        units: What `split_units` gave for them.
        geometry: Size of the model's own video clips.
        training_geometries: Sizes of all clips that will be asked for; None: `geometry` alone.

    Raises:
        SourceError: There is no clip of one of these sizes, or none held out.
        PipelineError: Decoding failed for another reason than one video's fault.
    """
    config = _with_limited_part(config, geometry)
    training_cache = validation_cache = None
    fingerprints: dict[str, str] = {}
    if config.cache is not None:
        recipe = FrameRecipe.for_training(config, geometry)
        training_cache, index = _build(units.training, recipe, config, config.source, config.cache)
        for wanted in dict.fromkeys(training_geometries or (geometry,)):
            logger.info(
                "%d training clips of %d frames per epoch from %d videos",
                len(training_grid(index, config, wanted)),
                wanted.num_frames,
                len(index.videos),
            )
        fingerprints["training"] = index.fingerprint
    if config.validation is not None:
        assert config.validation_cache is not None, "checked by DataConfig"
        recipe = FrameRecipe.for_evaluation(config, geometry)
        source = config.validation.source or config.source
        validation_cache, index = _build(
            units.held_out, recipe, config, source, config.validation_cache
        )
        fingerprints["held-out"] = index.fingerprint
    prepared = PreparedData(
        config=config,
        geometry=geometry,
        training_cache=training_cache,
        validation_cache=validation_cache,
        fingerprints=fingerprints,
    )
    held_out_clips = prepared.evaluation_clips(geometry)
    if held_out_clips is not None:
        logger.info("%d held-out clips to evaluate on", len(held_out_clips))
    return prepared


def split_units(config: DataConfig) -> SplitUnits:
    """Lists the videos and holds some out.

    Raises:
        SourceError: Nothing can be listed, or one of the two sets would be empty.
    """
    units = [WorkUnit.from_listed(video) for video in list_videos(config.source)]
    validation = config.validation
    if validation is None:
        return SplitUnits(units, [])
    if validation.source is not None:
        held_out = [WorkUnit.from_listed(video) for video in list_videos(validation.source)]
        apart = {unit.video_id for unit in held_out}
    else:
        assert validation.fraction is not None, "checked by ValidationConfig"
        apart = {unit.video_id for unit in units if _place(unit) < validation.fraction}
        held_out = [unit for unit in units if unit.video_id in apart]
    training = [unit for unit in units if unit.video_id not in apart]
    if not training or not held_out:
        raise SourceError(
            f"of {len(units)} listed videos {len(training)} would be left to train on and "
            f"{len(held_out)} held out; change data.validation"
        )
    return SplitUnits(training, held_out)


def _with_limited_part(config: DataConfig, geometry: ClipGeometry) -> DataConfig:
    """Settings in which `max_clips_per_video` names one part of a video for clips of any length.

    Without a hop, the grid of images is every frame: the first k of them would be all that a phase
    of images sees of a video that gives k clips.
    """
    clips = config.clips
    if clips.max_clips_per_video is None or clips.hop_frames is not None:
        return config
    clips = clips.model_copy(update={"hop_frames": geometry.num_frames})
    return config.model_copy(update={"clips": clips})


def _place(unit: WorkUnit) -> float:
    """A number in [0, 1) that depends on the video's id alone."""
    return int(stable_id("held out", unit.video_id)[:13], 16) / 16**13


def _build(
    units: Sequence[WorkUnit],
    recipe: FrameRecipe,
    config: DataConfig,
    source: SourceConfig,
    cache: CacheConfig,
) -> tuple[str, FrameIndex]:
    return ensure_frame_cache(
        units, recipe, segment_spec(recipe, config.decode, source.storage), cache
    )


def _open(uri: str, cache: CacheConfig | None) -> FrameCache:
    assert cache is not None, "a cache that was built has settings"
    return FrameCache.open(ensure_local(uri, cache.storage, cache.local_directory))
