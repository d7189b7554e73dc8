"""The listing of a whole source, as records or as Arrow batches, and a single video found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa

from pipeline.errors import SourceChangedError, SourceError
from pipeline.records import ListedVideo, WorkUnit, video_digest
from pipeline.sources.access import AllowedRoots, root_of
from pipeline.sources.batches import batches_of, videos_of
from pipeline.sources.config import ShardConfig, SourceConfig
from pipeline.sources.files import list_files
from pipeline.sources.lookup import in_threads, look_up, with_content_version
from pipeline.sources.manifests import list_manifest
from pipeline.sources.shards import list_members, members_of
from pipeline.storage import StorageConfig, archive_of


def list_batches(config: SourceConfig, *, allow_damage: bool = True) -> Iterator[pa.RecordBatch]:
    """Streams every input of the source: files, then manifests, then shards.

    The order is the same in every run over the same corpus. An input that several parts of the
    source name comes as often as they do.

    Args:
        config: The source.
        allow_damage: List what can be listed of a damaged shard; one input stands for the rest.

    Raises:
        SourceError: A part of the source cannot be listed, or holds no video.
    """
    for batch in _batches(config, allow_damage):
        yield batch if config.fingerprint == "stat" else _with_content_versions(batch, config)


def list_videos(config: SourceConfig) -> Iterator[ListedVideo]:
    """`list_batches` as records, each input once; files alone come sorted by URI.

    Raises:
        SourceError: As `list_batches`.
    """
    if not config.manifests and not config.shards.uris and config.fingerprint == "stat":
        yield from list_files(config.uris, config.extensions, config.storage)
        return
    seen: set[bytes] = set()
    for batch in list_batches(config):
        for video in videos_of(batch):
            digest = video_digest(video.uri)
            if digest not in seen:
                seen.add(digest)
                yield video


def find_video(
    uri: str, fingerprint: str, storage: StorageConfig, *, roots: Sequence[str] | None = None
) -> WorkUnit:
    """The unit of a video that was listed before, be it a file or a member of a shard.

    Args:
        uri: Its URI, as a row of a dataset holds it.
        fingerprint: The state it was in.
        storage: How remote file systems are reached.
        roots: Where it may lie (see `AllowedRoots`); None for anywhere.

    Raises:
        SourceError: It is gone, or lies elsewhere.
        SourceChangedError: It is in another state, or its state was told by a manifest alone.
    """
    if roots is not None and not AllowedRoots(roots).allow(uri):
        raise SourceError(f"{uri}: lies outside of {', '.join(roots) or 'all roots'}")
    video = _found(uri, storage)
    if video.fingerprint != fingerprint:
        video = with_content_version(video, storage)
    if video.fingerprint != fingerprint:
        raise SourceChangedError(f"{uri}: has changed since it was tokenized; refresh the dataset")
    return WorkUnit.from_listed(video)


def _batches(config: SourceConfig, allow_damage: bool) -> Iterator[pa.RecordBatch]:
    if config.uris:
        yield from batches_of(list_files(config.uris, config.extensions, config.storage))
    roots = [*map(root_of, config.uris), *config.allowed_roots]
    for manifest in config.manifests:
        yield from list_manifest(
            manifest, config.storage, num_threads=config.num_threads, allowed_roots=roots
        )
    if config.shards.uris:
        yield from batches_of(list_members(config, allow_damage=allow_damage))


def _with_content_versions(batch: pa.RecordBatch, config: SourceConfig) -> pa.RecordBatch:
    hashed = partial(with_content_version, storage=config.storage)
    (hashed_batch,) = batches_of(in_threads(hashed, videos_of(batch), config.num_threads))
    return hashed_batch


def _found(uri: str, storage: StorageConfig) -> ListedVideo:
    video = look_up(uri, storage)
    if not video.version and "#" in uri:
        shard_uri, name = archive_of(uri)
        shard = look_up(shard_uri, storage)
        if shard.version:
            config = SourceConfig(
                shards=ShardConfig(uris=(shard_uri,), attributes=()),
                extensions=(f".{name.rpartition('.')[2]}",),
                storage=storage,
            )
            members = members_of(shard, config)
            video = next((member for member in members if member.uri == uri), video)
    if not video.version:
        raise SourceError(f"{uri}: is gone, or may not be read")
    return video
