"""Asking a store about many inputs at one time: what is there, and what it contains."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from pipeline.errors import RecordError, SourceError, TransientError
from pipeline.records import ArchiveMember, ListedVideo
from pipeline.sources.files import listed_file
from pipeline.sources.remote import look_up_remote
from pipeline.storage import (
    StorageConfig,
    archive_of,
    is_local,
    local_path,
    member_blocks,
    open_input,
    with_retries,
)

_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")
_AHEAD_PER_THREAD = 2


def in_threads(
    function: Callable[[_ItemT], _ResultT], items: Iterable[_ItemT], num_threads: int
) -> Iterator[_ResultT]:
    """`map` with many calls under way: results in the order of `items`, few waiting at a time."""
    with ThreadPoolExecutor(num_threads) as pool:
        waiting: deque[Future[_ResultT]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > _AHEAD_PER_THREAD * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def look_up(uri: str, storage: StorageConfig) -> ListedVideo:
    """The input as its store knows it; empty and without a version if it cannot be had.

    Such an input stays in the listing: reading it gives the reason for its quarantine.

    Raises:
        SourceError: The store does not answer.
    """

    try:
        found = (
            listed_file(local_path(uri))
            if is_local(uri)
            else _with_source_errors(uri, partial(look_up_remote, uri, storage), storage)
        )
    except (RecordError, OSError, ValueError):  # a path with a null byte is a ValueError
        return ListedVideo(uri, 0, "")
    # The uri stays as it was given: it is the identity of the video.
    return replace(found, uri=uri)


def with_content_version(video: ListedVideo, storage: StorageConfig) -> ListedVideo:
    """The input with a hash of its bytes for a version.

    It stays as it is if it cannot be read, or has a fault: mending that makes it a changed one.

    Raises:
        SourceError: The store does not answer.
    """

    if video.fault is not None:
        return video

    def ask() -> ListedVideo:
        digest = hashlib.sha256()
        num_bytes = 0
        file_uri = video.uri if video.member is None else archive_of(video.uri)[0]
        with open_input(file_uri, storage) as file:
            whole = ArchiveMember(0, 2**63) if video.member is None else video.member
            for block in member_blocks(file, whole):
                digest.update(block)
                num_bytes += len(block)
        size_bytes = num_bytes if video.member is None else video.size_bytes
        return replace(video, size_bytes=size_bytes, version=f"sha256:{digest.hexdigest()}")

    try:
        return _with_source_errors(video.uri, ask, storage)
    except RecordError:
        return video


def _with_source_errors(uri: str, ask: Callable[[], _ResultT], storage: StorageConfig) -> _ResultT:
    try:
        return with_retries(ask, storage)
    except TransientError as error:
        raise SourceError(f"{uri}: its store does not answer: {error}; try again later") from error
