"""Lists the videos of a corpus: sorted by URI, each once, without reading a byte of them."""

from __future__ import annotations

import glob
import heapq
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes

from pydantic import Field, field_validator

from pipeline.errors import RecordError, SourceError, TransientError
from pipeline.records import ListedVideo
from pipeline.storage import (
    StorageConfig,
    canonical_uri,
    is_local,
    local_path,
    open_filesystem,
    typed_read_errors,
    with_retries,
)
from sweettok.strict_config import StrictConfig

VIDEO_EXTENSIONS = (
    ".3gp",
    ".avi",
    ".flv",
    ".gif",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".webm",
    ".wmv",
)

# The fields in which fsspec drivers tell that an object has changed, the strongest first.
_VERSION_FIELDS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime")


class SourceConfig(StrictConfig):
    """Which videos make the corpus.

    Attributes:
        uris: Files, directories (read recursively) and glob patterns, local or remote.
        extensions: Suffixes that directories and patterns are searched for, in any case; a file
            named by itself may have any suffix.
        storage: How remote file systems are reached.
    """

    uris: tuple[str, ...] = Field(min_length=1)
    extensions: tuple[str, ...] = Field(default=VIDEO_EXTENSIONS, min_length=1)
    storage: StorageConfig = StorageConfig()

    @field_validator("extensions")
    @classmethod
    def _check_extensions(cls, extensions: tuple[str, ...]) -> tuple[str, ...]:
        for extension in extensions:
            if not extension.startswith("."):
                raise ValueError(f"{extension!r} must begin with a dot, as in '.mp4'")
        return tuple(extension.lower() for extension in extensions)


def list_videos(config: SourceConfig) -> Iterator[ListedVideo]:
    """Lists every video below `config.uris` as a stream, sorted by URI, each once.

    A local tree is walked as the stream is read: memory grows with the largest directory, not
    with the corpus. Links are followed; a link that leads nowhere is listed, for it to become a
    quarantine row rather than to vanish.

    Raises:
        SourceError: A root does not exist or cannot be listed, or it holds no video.
    """
    streams = [_list_root(root, config) for root in config.uris]
    previous_uri = None
    for video in heapq.merge(*streams, key=lambda video: video.uri):
        if video.uri != previous_uri:
            previous_uri = video.uri
            yield video


def _list_root(root: str, config: SourceConfig) -> Iterator[ListedVideo]:
    is_empty = True
    for video in _list_local(root, config) if is_local(root) else _list_remote(root, config):
        is_empty = False
        yield video
    if is_empty:
        raise SourceError(
            f"{root}: holds no file ending in {', '.join(config.extensions)}; "
            "check the path or extend source.extensions"
        )


def _list_local(root: str, config: SourceConfig) -> Iterator[ListedVideo]:
    path = os.path.abspath(local_path(root))
    if os.path.lexists(path):
        yield from _walk(path, config, is_root=True)
        return
    # A file whose own name holds brackets exists as written, hence the pattern comes second.
    matches = glob.glob(path, recursive=True) if glob.has_magic(path) else []
    if not matches:
        raise SourceError(f"{root}: does not exist; give a file, a directory or a pattern")
    yield from heapq.merge(
        _listed_files(matches, config),
        *(_walk(match, config) for match in matches if os.path.isdir(match)),
        key=lambda video: video.uri,
    )


def _listed_files(paths: list[str], config: SourceConfig) -> Iterator[ListedVideo]:
    for path in sorted(paths, key=canonical_uri):
        if not os.path.isdir(path) and path.lower().endswith(config.extensions):
            yield _listed_file(path)


def _walk(
    path: str,
    config: SourceConfig,
    *,
    is_root: bool = False,
    ancestors: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[ListedVideo]:
    """Walks in the order of the URIs: a directory sorts as its name with a slash at the end."""
    if not os.path.isdir(path):
        if is_root or path.lower().endswith(config.extensions):
            yield _listed_file(path)
        return
    status = os.stat(path)
    identity = (status.st_dev, status.st_ino)
    if identity in ancestors:
        return
    try:
        with os.scandir(path) as entries:
            children = sorted((_sort_key(entry), entry.path) for entry in entries)
    except OSError as error:
        raise SourceError(f"{path}: cannot be listed: {error.strerror}") from error
    for _, child in children:
        yield from _walk(child, config, ancestors=ancestors | {identity})


def _sort_key(entry: os.DirEntry[str]) -> str:
    return quote_from_bytes(os.fsencode(entry.name)) + "/" * os.path.isdir(entry.path)


def _listed_file(path: str) -> ListedVideo:
    try:
        status = os.stat(path)
    except OSError:
        status = os.lstat(path)
    return ListedVideo(
        uri=canonical_uri(path), size_bytes=status.st_size, version=str(status.st_mtime_ns)
    )


def _list_remote(root: str, config: SourceConfig) -> Iterator[ListedVideo]:
    filesystem, path = open_filesystem(root, config.storage)

    def find() -> dict[str, dict[str, Any]]:
        with typed_read_errors(root):
            if glob.has_magic(path) and not filesystem.exists(path):
                return _glob_remote(filesystem, path)
            if filesystem.isfile(path):
                return {path: filesystem.info(path)}
            return dict(filesystem.find(path, detail=True))

    try:
        found = with_retries(find, config.storage)
    except (RecordError, TransientError) as error:
        raise SourceError(f"{root}: cannot be listed: {error}") from error
    videos = (
        _listed_object(filesystem.unstrip_protocol(key), info)
        for key, info in found.items()
        if key == path or key.lower().endswith(config.extensions)
    )
    yield from sorted(videos, key=lambda video: video.uri)


def _glob_remote(filesystem: Any, pattern: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path, info in filesystem.glob(pattern, detail=True).items():
        if info["type"] == "directory":
            found.update(filesystem.find(path, detail=True))
        else:
            found[path] = info
    return found


def _listed_object(uri: str, info: dict[str, Any]) -> ListedVideo:
    versions = (info[field] for field in _VERSION_FIELDS if info.get(field))
    return ListedVideo(
        uri=uri, size_bytes=int(info.get("size") or 0), version=str(next(versions, ""))
    )
