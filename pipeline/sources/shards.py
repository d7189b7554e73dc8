"""Videos inside WebDataset tar shards: their byte ranges, and the samples' texts as attributes.

Only headers and text members are read. What follows a damaged place in a shard cannot be listed;
one input stands for it, "<shard>#unreadable-from-byte-N", and ends in quarantine.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

from pipeline.dataset.schema import check_attribute_names
from pipeline.errors import DatasetError, RecordError, SourceError, TransientError
from pipeline.records import ArchiveMember, ListedVideo
from pipeline.sources.config import SourceConfig
from pipeline.sources.files import list_files
from pipeline.sources.lookup import in_threads
from pipeline.sources.texts import attribute_text
from pipeline.storage import archive_of, member_uri, open_input, with_retries

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_HEADER_BLOCK_BYTES = 64 * 2**10  # fetched at one time from a remote shard
_MAX_TEXT_BYTES = 2**20
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
            `allow_damage`, damaged, or a sample's texts cannot be attributes.
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
        content = with_retries(lambda: _read(shard, config), config.storage)
    except (RecordError, TransientError) as error:
        raise SourceError(f"{shard.uri}: cannot be listed: {error}") from error
    return [
        ListedVideo(
            uri=member_uri(shard.uri, name),
            size_bytes=member.size_bytes,
            version=shard.version,
            attributes=content.texts.get(_key_and_kind(name)[0], {}),
            member=member,
        )
        for name, member in content.videos
    ]


def _check_undamaged(last: ListedVideo) -> None:
    shard_uri, name = archive_of(last.uri)
    if name.startswith(_UNREADABLE):
        raise SourceError(
            f"{shard_uri}: cannot be read from byte {name.removeprefix(_UNREADABLE)} on, so that "
            "its videos would count as removed; mend the shard, or run with on_removed keep"
        )


@dataclass(slots=True)
class _Content:
    videos: list[tuple[str, ArchiveMember]] = field(default_factory=list)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)


def _read(shard: ListedVideo, config: SourceConfig) -> _Content:
    content = _Content()
    with open_input(shard.uri, config.storage, block_size=_HEADER_BLOCK_BYTES) as file:
        end_bytes = _add_members(content, shard, file, config)
        file.seek(end_bytes)
        is_closed = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    if not is_closed:
        rest = ArchiveMember(end_bytes, tarfile.BLOCKSIZE)
        content.videos.append((f"{_UNREADABLE}{end_bytes}", rest))
    return content


def _add_members(
    content: _Content, shard: ListedVideo, file: IO[bytes], config: SourceConfig
) -> int:
    """Reads the shard's headers; returns where they end, rightly or not."""
    end_bytes = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            end_bytes = archive.offset
            for info in archive:
                name = info.name.lower()
                if not info.isdir() and name.endswith(config.extensions):
                    member = ArchiveMember(info.offset_data, info.size)
                    content.videos.append((info.name, member))
                elif info.isfile() and name.endswith((".txt", ".json")):
                    _add_texts(content, f"{shard.uri}: member {info.name!r}", archive, info, config)
                end_bytes = archive.offset
    except tarfile.TarError:
        return end_bytes
    return end_bytes


def _add_texts(
    content: _Content,
    where: str,
    archive: tarfile.TarFile,
    info: tarfile.TarInfo,
    config: SourceConfig,
) -> None:
    key, kind = _key_and_kind(info.name)
    stream = archive.extractfile(info)
    assert stream is not None, "a regular file has content"
    if info.size > _MAX_TEXT_BYTES:
        raise SourceError(
            f"{where} has {info.size} bytes, above the limit of {_MAX_TEXT_BYTES} for texts; "
            "leave it out of the shard"
        )
    try:
        text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{where} is not UTF-8 ({error.reason}); convert it") from None
    found = (
        _json_texts(where, text)
        if kind.endswith("json")
        else {kind.removesuffix("txt").rstrip(".") or config.shards.text_attribute: text.strip()}
    )
    wanted = config.shards.attributes
    found = {name: value for name, value in found.items() if wanted is None or name in wanted}
    texts = content.texts.setdefault(key, {})
    for name, value in found.items():
        if texts.setdefault(name, value) != value:
            raise SourceError(
                f"{where}: attribute {name!r} has another value in another member of the sample; "
                "rename one, or set source.shards.text_attribute"
            )
    _check_names(where, texts)


def _json_texts(where: str, text: str) -> dict[str, str]:
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} is not JSON ({error}); mend it or leave it out") from None
    if not isinstance(values, dict):
        raise SourceError(f"{where} must hold one JSON object; mend it or leave it out")
    return {
        name: attribute_text(value) for name, value in values.items() if value is not None
    }  # fmt: skip


def _check_names(where: str, texts: dict[str, str]) -> None:
    try:
        check_attribute_names(list(texts))
    except DatasetError as error:
        raise SourceError(
            f"{where}: {error}, or name the wanted ones in source.shards.attributes"
        ) from None


def _key_and_kind(name: str) -> tuple[str, str]:
    """The sample that a member belongs to, and what follows its first dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return folder + slash + stem, kind.lower()


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
