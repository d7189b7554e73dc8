"""Objects of a remote store as a sorted stream: page by page on S3, else folder by folder."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias, TypeVar

from fsspec.utils import glob_translate

from pipeline.errors import QuarantineReason, RecordError, SourceError, TransientError
from pipeline.records import ListedVideo
from pipeline.storage import (
    StorageConfig,
    is_s3,
    is_web,
    open_filesystem,
    typed_read_errors,
    with_retries,
)

Found: TypeAlias = tuple[str, dict[str, Any]]
"""A path within the store, and what the store says of it."""

# The fields in which fsspec drivers tell that an object has changed, the strongest first.
_VERSION_FIELDS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime")
_ResultT = TypeVar("_ResultT")


class RemoteRoot:
    """One root of a remote store: an object, a folder or a pattern."""

    def __init__(self, root: str, storage: StorageConfig) -> None:
        self._root = root
        self._storage = storage
        self._filesystem, self._path = open_filesystem(root, storage)

    def list(self, extensions: tuple[str, ...]) -> Iterator[ListedVideo]:
        """The objects that end in one of `extensions`, sorted by URI.

        The root itself, if it is an object, may have any suffix.

        Raises:
            SourceError: The store cannot be listed.
        """
        for path, info in self._found():
            if path == self._path or path.lower().endswith(extensions):
                yield listed_object(str(self._filesystem.unstrip_protocol(path)), info)

    def _found(self) -> Iterator[Found]:
        matches, is_object = self._ask(self._kind)
        if is_object:
            yield self._path, self._ask(self._info)
        elif is_s3(self._root):
            yield from self._matching() if matches else self._pages(f"{self._path}/")
        elif matches:
            yield from sorted(self._ask(self._glob).items())
        else:
            yield from self._walk(self._path)

    def _kind(self) -> tuple[bool, bool]:
        """Whether the root is a pattern, and whether it is one object."""
        if is_web(self._root):  # has no folders
            return is_pattern(self._root), not is_pattern(self._root)
        matches = is_pattern(self._path) and not self._filesystem.exists(self._path)
        return matches, not matches and self._filesystem.isfile(self._path)

    def _info(self) -> dict[str, Any]:
        try:
            return dict(self._filesystem.info(self._path))
        except FileNotFoundError as error:  # of the web's driver whatever went wrong
            reason = " ".join(str(error.__cause__ or "not found").split())
            raise RecordError(
                QuarantineReason.NOT_FOUND, f"its host gives no such file ({reason})", stage="read"
            ) from error

    def _pages(self, prefix: str) -> Iterator[Found]:
        """S3 lists in the order of the keys, a thousand at a time."""
        bucket, _, key_prefix = prefix.partition("/")
        wanted = {"Bucket": bucket, "Prefix": key_prefix}
        while True:
            page = self._ask(partial(self._filesystem.call_s3, "list_objects_v2", **wanted))
            for entry in page.get("Contents", ()):
                yield f"{bucket}/{entry['Key']}", entry | {"size": entry["Size"]}
            if not page.get("IsTruncated"):
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]

    def _matching(self) -> Iterator[Found]:
        """The objects that the pattern matches, and those below folders that it matches."""
        pattern = re.compile(glob_translate(self._path))
        fixed = re.split(r"[*?\[]", self._path, maxsplit=1)[0].rpartition("/")[0]
        for path, info in self._pages(f"{fixed}/"):
            ends = [match.start() for match in re.finditer("/", path)][fixed.count("/") + 1 :]
            if any(pattern.match(path[:end]) for end in [*ends, len(path)]):
                yield path, info

    def _glob(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for path, info in self._filesystem.glob(self._path, detail=True).items():
            if info["type"] == "directory":
                found.update(self._filesystem.find(path, detail=True))
            else:
                found[path] = info
        return found

    def _walk(self, folder: str) -> Iterator[Found]:
        """Walks in the order of the paths: a folder sorts as its name with a slash at the end."""
        try:
            entries = self._ask(lambda: self._filesystem.ls(folder, detail=True))
        except SourceError as error:
            cause = error.__cause__
            if isinstance(cause, RecordError) and cause.reason == QuarantineReason.NOT_FOUND:
                return  # as on S3, a folder that is not there is an empty one
            raise
        named = [(_sort_key(info), info["name"].rstrip("/"), info) for info in entries]
        for _, name, info in sorted(named, key=lambda item: item[0]):
            if info["type"] != "directory":
                yield name, info
            elif name != folder.rstrip("/"):
                yield from self._walk(name)

    def _ask(self, question: Callable[[], _ResultT]) -> _ResultT:
        def typed() -> _ResultT:
            with typed_read_errors(self._root):
                return question()

        try:
            return with_retries(typed, self._storage)
        except (RecordError, TransientError) as error:
            raise SourceError(f"{self._root}: cannot be listed: {error}") from error


def is_pattern(root: str) -> bool:
    """Whether a root has the form of a glob pattern; a file may still have such a name.

    In the address of a web page "?" begins the query, where nothing is a pattern.
    """
    return glob.has_magic(root.partition("?")[0] if is_web(root) else root)


def listed_object(uri: str, info: dict[str, Any]) -> ListedVideo:
    """The record of an object that its driver describes as `info`."""
    versions = (info[field] for field in _VERSION_FIELDS if info.get(field))
    return ListedVideo(
        uri=uri, size_bytes=int(info.get("size") or 0), version=str(next(versions, ""))
    )


def look_up_remote(uri: str, storage: StorageConfig) -> ListedVideo:
    """The record of one object.

    Raises:
        RecordError, TransientError, SourceError: As `typed_read_errors`.
    """
    filesystem, path = open_filesystem(uri, storage)
    with typed_read_errors(uri):
        return listed_object(uri, filesystem.info(path))


def _sort_key(info: dict[str, Any]) -> str:
    return str(info["name"]).rstrip("/") + "/" * (info["type"] == "directory")
