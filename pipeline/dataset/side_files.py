"""Files that travel with a dataset but are no rows: the tokenizer, configs, summaries.

They lie in folders whose names start with an underscore, which Delta readers and vacuum skip.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import pyarrow.fs as pa_fs

from pipeline.errors import DatasetError

_BLOCK_BYTES = 2**20
_MANIFEST = "manifest.json"
_PARTIAL = ".partial-"
_COPY = re.compile(r"[0-9a-f]{32}|\.partial-.*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class SideFiles:
    """Small files under the root of a dataset.

    Args:
        uri: The dataset, for messages.
        filesystem: A filesystem whose root is the dataset's root.
    """

    def __init__(self, uri: str, filesystem: pa_fs.FileSystem) -> None:
        self._uri = uri
        self._filesystem = filesystem

    def write(self, path: str, content: bytes) -> None:
        """Writes one file, replacing what was there."""
        self._upload(io.BytesIO(content), path)

    def read(self, path: str) -> bytes | None:
        """The content of one file; None if it is not there."""
        if self._filesystem.get_file_info(path).type != pa_fs.FileType.File:
            return None
        with self._filesystem.open_input_file(path) as file:
            return bytes(file.read())

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; none if there is no such folder."""
        selector = pa_fs.FileSelector(folder, allow_not_found=True)
        found = self._filesystem.get_file_info(selector)
        return sorted(info.base_name for info in found if info.type == pa_fs.FileType.File)

    def delete(self, path: str) -> None:
        """Deletes one file; it does not matter if it is not there."""
        if self._filesystem.get_file_info(path).type == pa_fs.FileType.File:
            self._filesystem.delete_file(path)

    def store_folder(self, folder: str, source: Path) -> None:
        """Copies the files below the local directory `source`, a manifest of their hashes last.

        A folder that holds the same files already is left alone.

        Raises:
            DatasetError: `source` holds no files, or `folder` already holds others.
        """
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        hashes = {path.relative_to(source).as_posix(): _file_sha256(path) for path in paths}
        if not hashes:
            raise DatasetError(f"{source}: holds no files to store in {self._uri}")
        stored = self._manifest(folder)
        if stored == hashes:
            return
        if stored is not None:
            raise DatasetError(
                f"{self._uri}/{folder} already holds other files than {source}; "
                "a stored tokenizer is never replaced: write to another dataset"
            )
        for name in hashes:
            with (source / name).open("rb") as file:
                self._upload(file, f"{folder}/{name}")
        self.write(f"{folder}/{_MANIFEST}", json.dumps(hashes, indent=1).encode())

    def fetch_folder(self, folder: str, cache_dir: Path) -> Path:
        """Downloads what `store_folder` stored, verified; returns the local directory.

        The directory's name is the hash of its manifest: what is there is not fetched again, and
        two processes that fetch at the same time do not disturb each other.

        Raises:
            DatasetError: The folder was never stored completely, or a file was altered.
        """
        hashes = self._manifest(folder)
        if hashes is None:
            raise DatasetError(
                f"{self._uri}: {folder} is not stored completely; run the job that writes the "
                "dataset again with the same tokenizer"
            )
        for name in hashes:
            if not _is_below(name):
                raise DatasetError(
                    f"{self._uri}/{folder}/{_MANIFEST} names {name!r}, outside of its folder; the "
                    "dataset was altered: take it from where it was written"
                )
        key = json.dumps(hashes, sort_keys=True).encode()
        target = cache_dir / hashlib.sha256(key).hexdigest()[:32]
        if target.is_dir():
            with suppress(OSError):
                os.utime(target)  # says when it was used last
            return target
        cache_dir.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=cache_dir))
        try:
            for name, expected in hashes.items():
                self._download(f"{folder}/{name}", partial / name, expected)
            _rename_unless_there(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target

    def _upload(self, source: BinaryIO, path: str) -> None:
        # Blocks smaller than the buffer: the Delta file system refuses larger single writes.
        with self._filesystem.open_output_stream(path, buffer_size=4 * _BLOCK_BYTES) as stream:
            while block := source.read(_BLOCK_BYTES):
                stream.write(block)

    def _download(self, path: str, target: Path, expected_sha256: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._filesystem.get_file_info(path).type == pa_fs.FileType.File:
            with self._filesystem.open_input_file(path) as source, target.open("wb") as file:
                while block := source.read(_BLOCK_BYTES):
                    file.write(block)
        if not target.exists() or _file_sha256(target) != expected_sha256:
            raise DatasetError(f"{self._uri}/{path} is missing or was altered since it was stored")

    def _manifest(self, folder: str) -> dict[str, str] | None:
        content = self.read(f"{folder}/{_MANIFEST}")
        if content is None:
            return None
        try:
            return {str(name): str(sha256) for name, sha256 in json.loads(content).items()}
        except (AttributeError, ValueError) as error:
            raise DatasetError(
                f"{self._uri}/{folder}/{_MANIFEST} is no list of files ({error}); the dataset was "
                "altered: take it from where it was written"
            ) from None


def unused_copies(cache_dir: Path, unused_for: timedelta) -> dict[Path, int]:
    """Directories that `fetch_folder` made and nobody has asked for in that time: size in bytes.

    Those that a stopped fetch left half-filled are among them.
    """
    if not cache_dir.is_dir():
        return {}
    oldest_s = time.time() - unused_for.total_seconds()
    return {
        path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        for path in sorted(cache_dir.iterdir())
        if path.is_dir() and _COPY.fullmatch(path.name) and path.stat().st_mtime < oldest_s
    }


def remove_copy(path: Path) -> None:
    """Removes a directory that `unused_copies` has found; it is never half there under its name."""
    doomed = path.with_name(f"{_PARTIAL}{path.name}")
    if not path.name.startswith(_PARTIAL):
        path.rename(doomed)
        path = doomed
    shutil.rmtree(path)


def checked_name(name: str, what: str) -> str:
    """`name`, if it can be a file name everywhere.

    Raises:
        DatasetError: It cannot; the message says what is allowed.
    """
    if not _NAME.fullmatch(name):
        raise DatasetError(
            f"{what} {name!r} cannot be a file name: use letters, digits, '.', '_' and '-'"
        )
    return name


def _is_below(name: str) -> bool:
    """Whether a name written by others stays within the folder that it is joined to."""
    parts = name.split("/")
    return "\\" not in name and "\0" not in name and not {"", ".", ".."} & set(parts)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rename_unless_there(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError:
        if not target.is_dir():
            raise
