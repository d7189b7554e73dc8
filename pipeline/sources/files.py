"""Lists files below roots: sorted by URI, each once, without reading a byte of them."""

from __future__ import annotations

import glob
import heapq
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import quote_from_bytes

from pipeline.errors import SourceError
from pipeline.records import ListedVideo
from pipeline.sources.remote import RemoteRoot, is_pattern
from pipeline.storage import StorageConfig, canonical_uri, is_local, local_path


def list_files(
    roots: Sequence[str], extensions: tuple[str, ...], storage: StorageConfig
) -> Iterator[ListedVideo]:
    """Lists every file below `roots` as a stream, sorted by URI, each once.

    A local tree is walked as the stream is read: memory grows with the largest directory, not
    with the corpus. Links are followed; a link that leads nowhere is listed, for it to become a
    quarantine row rather than to vanish.

    Args:
        roots: Files, directories and glob patterns, local or remote.
        extensions: Suffixes that directories and patterns are searched for, in lower case.
        storage: How remote file systems are reached.

    Raises:
        SourceError: A root does not exist or cannot be listed, or it holds no such file.
    """
    streams = [_list_root(root, extensions, storage) for root in roots]
    previous_uri = None
    for video in heapq.merge(*streams, key=lambda video: video.uri):
        if video.uri != previous_uri:
            previous_uri = video.uri
            yield video


def listed_file(path: str) -> ListedVideo:
    """The record of one local file, or of the link itself if it leads nowhere.

    Raises:
        OSError: There is neither, or it may not be looked at.
    """
    try:
        status = os.stat(path)
    except OSError:
        status = os.lstat(path)
    return ListedVideo(
        uri=canonical_uri(path), size_bytes=status.st_size, version=str(status.st_mtime_ns)
    )


def _list_root(
    root: str, extensions: tuple[str, ...], storage: StorageConfig
) -> Iterator[ListedVideo]:
    is_empty = True
    found = (
        _list_local(root, extensions)
        if is_local(root)
        else RemoteRoot(root, storage).list(extensions)
    )
    for video in found:
        is_empty = False
        yield video
    if is_empty:
        holds, place = ("matches", "pattern") if is_pattern(root) else ("holds", "path")
        raise SourceError(
            f"{root}: {holds} no file ending in {', '.join(extensions)}; "
            f"check the {place} or extend source.extensions"
        )


def _list_local(root: str, extensions: tuple[str, ...]) -> Iterator[ListedVideo]:
    path = os.path.abspath(local_path(root))
    if os.path.lexists(path):
        yield from _walk(path, extensions, is_root=True)
        return
    # A file whose own name holds brackets exists as written, hence the pattern comes second.
    matches = glob.glob(path, recursive=True) if is_pattern(path) else []
    if not matches and is_pattern(path):
        raise SourceError(f"{root}: matches nothing; check the pattern")
    if not matches:
        raise SourceError(f"{root}: does not exist; give a file, a directory or a pattern")
    yield from heapq.merge(
        _listed_files(matches, extensions),
        *(_walk(match, extensions) for match in matches if os.path.isdir(match)),
        key=lambda video: video.uri,
    )


def _listed_files(paths: list[str], extensions: tuple[str, ...]) -> Iterator[ListedVideo]:
    for path in sorted(paths, key=canonical_uri):
        if not os.path.isdir(path) and path.lower().endswith(extensions):
            yield listed_file(path)


def _walk(
    path: str,
    extensions: tuple[str, ...],
    *,
    is_root: bool = False,
    ancestors: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[ListedVideo]:
    """Walks in the order of the URIs: a directory sorts as its name with a slash at the end."""
    if not os.path.isdir(path):
        if is_root or path.lower().endswith(extensions):
            with suppress(FileNotFoundError):  # gone since its folder was read
                yield listed_file(path)
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
        yield from _walk(child, extensions, ancestors=ancestors | {identity})


def _sort_key(entry: os.DirEntry[str]) -> str:
    return quote_from_bytes(os.fsencode(entry.name)) + "/" * os.path.isdir(entry.path)
