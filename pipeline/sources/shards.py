"""Videos inside WebDataset tar shards: their byte ranges, and the samples' texts as attributes.

Only headers and text members are read. A video that is a link, or whose texts are faulty, is listed
with its fault and ends in quarantine, and the rest of the shard goes on. What follows a damaged
place cannot be listed; one input stands for it, "<shard>#unreadable-from-byte-N", and ends in
quarantine.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import IO

from pipeline.errors import QuarantineReason, RecordError, SourceError, TransientError
from pipeline.records import ArchiveMember, InputFault, ListedVideo
from pipeline.sources.config import SourceConfig
from pipeline.sources.files import list_files
from pipeline.sources.lookup import in_threads
from pipeline.sources.sidecars import SIDECAR_EXTENSIONS, Sidecars, storage_fault
from pipeline.storage import archive_of, member_uri, open_input, with_retries

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_HEADER_BLOCK_BYTES = 64 * 2**10  # fetched at one time from a remote shard
_UNREADABLE = "unreadable-from-byte-"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def list_members(config: SourceConfig, *, allow_damage: bool = True) -> Iterator[ListedVideo]:
    """Lists the videos in the shards of `config.shards`: shards by URI, members as they lie.

    Memory grows with the largest shards, not with their number.

    Args:
        config: The source.
        allow_damage: List what can be listed of a damaged shard.

    Raises:
        SourceError: A root does not exist, a shard cannot be read, is compressed or, against
            `allow_damage`, damaged, or a name of a sample's texts cannot be a column.
    """
    roots = [root for pattern in config.shards.uris for root in _expanded(pattern)]
    shards = list_files(roots, (".tar", *_COMPRESSED), config.storage)
    is_empty = True
    for members in in_threads(partial(members_of, config=config), shards, config.num_threads):
        is_empty = is_empty and not members
        if members and not allow_damage:
            _check_undamaged(members[-1])
        yield from members
    if is_empty:
        raise SourceError(
            f"{', '.join(config.shards.uris)}: no shard holds a member ending in "
            f"{', '.join(config.extensions)}; check source.shards.uris or extend source.extensions"
        )


def members_of(shard: ListedVideo, config: SourceConfig) -> list[ListedVideo]:
    """The videos of one shard; their version is the shard's.

    Raises:
        SourceError: As `list_members`.
    """
    if shard.uri.lower().endswith(_COMPRESSED):
        raise SourceError(
            f"{shard.uri}: a compressed shard cannot be read by byte range; decompress it"
        )
    try:
        return with_retries(lambda: _read(shard, config), config.storage)
    except (RecordError, TransientError) as error:
        raise SourceError(f"{shard.uri}: cannot be listed: {error}") from error


def _check_undamaged(last: ListedVideo) -> None:
    shard_uri, name = archive_of(last.uri)
    if name.startswith(_UNREADABLE):
        raise SourceError(
            f"{shard_uri}: cannot be read from byte {name.removeprefix(_UNREADABLE)} on, so that "
            "its videos would count as removed; mend the shard, or run with on_removed keep"
        )


def _read(shard: ListedVideo, config: SourceConfig) -> list[ListedVideo]:
    sidecars = Sidecars(shard.uri, config.shards)
    videos: list[ListedVideo] = []
    with open_input(shard.uri, config.storage, block_size=_HEADER_BLOCK_BYTES) as file:
        end_bytes = _add_members(videos, sidecars, shard, file, config)
        file.seek(end_bytes)
        is_closed = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    videos = [_with_texts(video, sidecars) for video in videos]
    if not is_closed:
        rest = ArchiveMember(end_bytes, tarfile.BLOCKSIZE)
        videos.append(_listed_member(shard, f"{_UNREADABLE}{end_bytes}", rest))
    return videos


def _add_members(
    videos: list[ListedVideo],
    sidecars: Sidecars,
    shard: ListedVideo,
    file: IO[bytes],
    config: SourceConfig,
) -> int:
    """Reads the shard's headers; returns where they end, rightly or not."""
    end_bytes = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            end_bytes = archive.offset
            for info in archive:
                name = info.name.lower()
                if not info.isdir() and name.endswith(config.extensions):
                    videos.append(_listed_video(shard, info))
                elif not info.isdir() and name.endswith(SIDECAR_EXTENSIONS):
                    sidecars.add(archive, info)
                end_bytes = archive.offset
    except tarfile.TarError:
        return end_bytes
    return end_bytes


def _listed_video(shard: ListedVideo, info: tarfile.TarInfo) -> ListedVideo:
    video = _listed_member(shard, info.name, ArchiveMember(info.offset_data, info.size))
    message = storage_fault(info)
    if message is None:
        return video
    where = f"{shard.uri}: member {info.name!r}"
    return replace(video, fault=InputFault(QuarantineReason.READ_ERROR, f"{where} {message}"))


def _listed_member(shard: ListedVideo, name: str, member: ArchiveMember) -> ListedVideo:
    return ListedVideo(
        member_uri(shard.uri, name), member.size_bytes, shard.version, member=member
    )  # fmt: skip


def _with_texts(video: ListedVideo, sidecars: Sidecars) -> ListedVideo:
    name = archive_of(video.uri)[1]
    fault = video.fault or sidecars.fault_of(name)
    return replace(video, attributes=sidecars.texts_of(name), fault=fault)


def _expanded(pattern: str) -> list[str]:
    """The shards that "{000..127}" stands for, zero-padded as its first number."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = range(int(first), int(last) + 1)
    if not numbers:
        raise SourceError(f"{pattern}: counts from {first} to {last}; write the smaller one first")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [
        root for number in numbers for root in _expanded(f"{before}{number:0{len(first)}}{after}")
    ]
