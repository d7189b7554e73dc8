"""Small files of one folder, local or remote, of which each can be created once only.

Creating a file only if it is not there is the one decision that every store can make between two
processes: on a disk by a hard link, on an object store by a conditional request.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

from pipeline.errors import DatasetError, RecordError, SourceError, TransientError
from pipeline.storage import (
    StorageConfig,
    is_local,
    local_path,
    open_filesystem,
    typed_read_errors,
    with_retries,
)
from pipeline.whole_files import replace_file

_ResultT = TypeVar("_ResultT")


class ConditionalFiles(Protocol):
    """The files of one folder; every method raises `DatasetError` if the store refuses."""

    def names(self) -> list[str]:
        """Names of the files, sorted; none if there is no such folder."""

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it is not there."""

    def create(self, name: str, content: bytes) -> bool:
        """Creates a file if it is not there; of several that try, one gets True.

        The content must be the caller's alone: it is how a caller whose answer was lost knows its
        own file.
        """

    def replace(self, name: str, content: bytes) -> None:
        """Writes a file, whether it is there or not; readers see the old content or the new."""

    def delete(self, name: str) -> None:
        """Deletes a file; it does not matter if it is not there."""


def conditional_files(folder: str, storage: StorageConfig) -> ConditionalFiles:
    """The files of a folder.

    Args:
        folder: Path or URI; it need not exist.
        storage: How a remote one is reached.

    Raises:
        SourceError: The scheme is unknown, or its driver is not installed.
    """
    if is_local(folder):
        return _LocalFiles(Path(local_path(folder)))
    return _RemoteFiles(folder, storage)


class _LocalFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        with self._errors(), suppress(FileNotFoundError):
            return sorted(path.name for path in self._folder.iterdir() if path.name[0] != ".")
        return []

    def read(self, name: str) -> bytes | None:
        with self._errors(), suppress(FileNotFoundError):
            return (self._folder / name).read_bytes()
        return None

    def create(self, name: str, content: bytes) -> bool:
        partial = self._folder / f".{name}.{uuid.uuid4().hex}"
        with self._errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_bytes(content)
                os.link(partial, self._folder / name)
            except FileExistsError:
                return False
            finally:
                partial.unlink(missing_ok=True)
        return True

    def replace(self, name: str, content: bytes) -> None:
        with self._errors():
            replace_file(self._folder / name, content)

    def delete(self, name: str) -> None:
        with self._errors():
            (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DatasetError(
                f"{self._folder}: {error.strerror}; choose a place where this user may write and "
                "whose file system has hard links, or allow it"
            ) from error


class _RemoteFiles:
    def __init__(self, folder: str, storage: StorageConfig) -> None:
        self._folder = folder
        self._storage = storage
        self._filesystem, self._path = open_filesystem(folder, storage)

    def names(self) -> list[str]:
        def ask() -> list[str]:
            with suppress(FileNotFoundError):
                return sorted(path.rpartition("/")[2] for path in self._filesystem.find(self._path))
            return []

        return self._on_store(ask)

    def read(self, name: str) -> bytes | None:
        def ask() -> bytes | None:
            with suppress(FileNotFoundError):
                return bytes(self._filesystem.cat_file(f"{self._path}/{name}"))
            return None

        return self._on_store(ask)

    def create(self, name: str, content: bytes) -> bool:
        def ask() -> bool:
            try:
                self._filesystem.pipe_file(f"{self._path}/{name}", content, mode="create")
            except FileExistsError:
                # Perhaps by ourselves: the answer to an earlier attempt may have been lost.
                return bool(self._filesystem.cat_file(f"{self._path}/{name}") == content)
            return True

        return self._on_store(ask)

    def replace(self, name: str, content: bytes) -> None:
        self._on_store(lambda: self._filesystem.pipe_file(f"{self._path}/{name}", content))

    def delete(self, name: str) -> None:
        def ask() -> None:
            with suppress(FileNotFoundError):
                self._filesystem.rm_file(f"{self._path}/{name}")

        self._on_store(ask)

    def _on_store(self, action: Callable[[], _ResultT]) -> _ResultT:
        def typed() -> _ResultT:
            with typed_read_errors(self._folder):
                return action()

        try:
            return with_retries(typed, self._storage)
        except (RecordError, TransientError, SourceError) as error:
            raise DatasetError(f"{self._folder}: {error}") from error
