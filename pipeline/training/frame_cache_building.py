"""Builds frame caches: finds the one that is there, or decodes every video once, on Ray."""

from __future__ import annotations

import functools
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray
import ray.data
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.decoding.interface import DecodeConfig
from pipeline.engine import (
    PROGRESS_INTERVAL_S,
    DecodeSpec,
    EngineConfig,
    decode_on_ray,
)
from pipeline.errors import PipelineError
from pipeline.records import Clip, UnitEnd, WorkUnit, stable_id
from pipeline.storage import is_local, local_path, normalized_uri, open_filesystem
from pipeline.training.data_config import CacheConfig
from pipeline.training.frame_cache import FORMAT_VERSION, INDEX_FILE, FrameIndex, call_store
from pipeline.training.frame_cache_writer import FrameCacheWriter, published
from pipeline.training.frame_recipe import FrameRecipe
from pipeline.transport import table_to_records
from pipeline.worker_errors import as_pipeline_error

logger = logging.getLogger(__name__)

# So few bytes of video are decoded before Ray Data would have started its first task.
SMALL_SET_BYTES = 16 * 2**20


def ensure_frame_cache(
    units: Sequence[WorkUnit],
    recipe: FrameRecipe,
    spec: DecodeSpec,
    cache: CacheConfig,
    *,
    small_set_bytes: int = SMALL_SET_BYTES,
) -> tuple[str, FrameIndex]:
    """The URI and the index of the cache of `units`, made now if it is not there yet.

    A changed recipe, a changed video, one more or one fewer, another limit on what a file may cost:
    another cache, in a directory of its own. Nothing that is there is altered.

    Args:
        spec: As `whole_frames.segment_spec` gives it for `recipe`.
        small_set_bytes: Videos of together so few bytes are decoded in this process.

    Raises:
        PipelineError: Decoding failed for another reason than one video's fault, or the directory
            cannot be written to.
    """
    uri = f"{normalized_uri(cache.directory)}/{cache_name(units, recipe, spec.settings.decode)}"
    index = _find(uri, cache)
    if index is not None:
        logger.info("%d videos in the frame cache %s", len(index.videos), uri)
        _warn_of_unusable(index, uri)
        return uri, index
    started_s = time.monotonic()
    is_small = sum(unit.size_bytes for unit in units) <= small_set_bytes
    fill = _fill_in_process if is_small else _fill_on_ray
    try:
        with _published(uri, cache) as directory:
            new_writer = functools.partial(
                FrameCacheWriter, directory, recipe, shard_bytes=cache.shard_bytes
            )
            index = fill(units, spec, new_writer)
    except OSError as error:
        raise PipelineError(
            f"the frame cache {uri} cannot be written: {error.strerror or error}; choose another "
            "cache.directory"
        ) from error
    _warn_of_unusable(index, uri)
    logger.info(
        "%d of %d videos decoded into the frame cache %s: %d frames, %.1f MB, %.1f s",
        len(index.videos),
        len(units),
        uri,
        index.num_frames.sum(),
        sum(shard.num_bytes for shard in index.shards) / 1e6,
        time.monotonic() - started_s,
    )
    return uri, index


def cache_name(units: Iterable[WorkUnit], recipe: FrameRecipe, decode: DecodeConfig) -> str:
    """Name of the directory: a hash of what is decoded and how, and of what a file may cost."""
    videos = sorted(
        (unit.video_id, unit.fingerprint, *sorted(unit.attributes.items())) for unit in units
    )
    limits = (decode.deadline_s, decode.max_pixels_per_frame, decode.max_file_bytes)
    return stable_id("frame cache", FORMAT_VERSION, recipe.to_yaml(), limits, *videos)[:16]


def _warn_of_unusable(index: FrameIndex, uri: str) -> None:
    """Names every video that is not trained on, each time: what was wrong may have passed."""
    for video in index.unusable:
        logger.warning("%s gives no frames (%s): %s", video.uri, video.reason, video.message)
    if index.unusable:
        logger.warning(
            "%d videos are left out of %s for good; mend them, or remove that directory to have "
            "all videos tried again",
            len(index.unusable),
            uri,
        )


def _fill_in_process(
    units: Sequence[WorkUnit], spec: DecodeSpec, new_writer: functools.partial[FrameCacheWriter]
) -> FrameIndex:
    """Decodes one video after the other; the decoding child is still a process of its own."""
    writer = new_writer()
    stage = spec.stage()
    stage.setup()
    try:
        for unit in units:
            for record in stage.process(unit):
                writer.add(record)
        return writer.close()
    finally:
        stage.close()


def _fill_on_ray(
    units: Sequence[WorkUnit], spec: DecodeSpec, new_writer: functools.partial[FrameCacheWriter]
) -> FrameIndex:
    """Decodes on all nodes; an actor on this one writes, since only here the directory is ours."""
    (stream,) = decode_on_ray(units, spec, EngineConfig()).streaming_split(1)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(_StreamWriter).options(
        num_cpus=0, max_concurrency=2, scheduling_strategy=here
    )
    writer = actor.remote(new_writer)
    result = writer.consume.remote(stream)
    last, changed_s = 0, time.monotonic()
    try:
        while not ray.wait([result], timeout=PROGRESS_INTERVAL_S)[0]:
            num_videos = ray.get(writer.num_videos.remote())
            if num_videos != last:
                last, changed_s = num_videos, time.monotonic()
                logger.info("%d of %d videos decoded", num_videos, len(units))
            if time.monotonic() - changed_s > EngineConfig().no_progress_timeout_s:
                raise PipelineError(
                    f"no video was decoded for {EngineConfig().no_progress_timeout_s:g} s; check "
                    "that the cluster has a free CPU core"
                )
        return FrameIndex.model_validate(ray.get(result))
    except ray.exceptions.RayError as error:
        raise as_pipeline_error(error) from error
    finally:
        ray.kill(writer)


class _StreamWriter:
    """Feeds decoded segments to a cache writer, away from the driver."""

    def __init__(self, new_writer: functools.partial[FrameCacheWriter]) -> None:
        self._writer = new_writer()

    def consume(self, stream: ray.data.DataIterator) -> dict[str, object]:
        for table in stream.iter_batches(batch_size=None, batch_format="pyarrow"):
            for record in table_to_records(table):
                assert isinstance(record, Clip | UnitEnd)
                self._writer.add(record)
        return self._writer.close().to_mapping()

    def num_videos(self) -> int:
        return self._writer.num_videos


def _find(uri: str, cache: CacheConfig) -> FrameIndex | None:
    """The index of a complete cache at `uri`."""
    if is_local(uri):
        path = Path(local_path(uri)) / INDEX_FILE
        return FrameIndex.parse(path.read_bytes(), str(path)) if path.exists() else None
    filesystem, remote = open_filesystem(uri, cache.storage)
    file = f"{remote}/{INDEX_FILE}"
    if not call_store(uri, cache.storage, lambda: filesystem.exists(file)):
        return None
    text = call_store(uri, cache.storage, lambda: filesystem.cat_file(file))
    return FrameIndex.parse(text, f"{uri}/{INDEX_FILE}")


@contextmanager
def _published(uri: str, cache: CacheConfig) -> Iterator[Path]:
    """A directory to fill that appears at `uri` when the block ends well."""
    if is_local(uri):
        with published(Path(local_path(uri))) as directory:
            yield directory
        return
    with tempfile.TemporaryDirectory(prefix="frames-") as temporary:
        yield Path(temporary)
        filesystem, remote = open_filesystem(uri, cache.storage)
        # The index goes last: only then the cache can be found.
        files = sorted(Path(temporary).iterdir(), key=lambda file: file.name == INDEX_FILE)
        for file in files:
            upload = functools.partial(filesystem.put_file, str(file), f"{remote}/{file.name}")
            call_store(uri, cache.storage, upload)
