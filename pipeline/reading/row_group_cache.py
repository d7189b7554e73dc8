"""Row groups kept on a local disk, decoded: a second epoch reads them without store or decoder.

Entries are Arrow files, written whole and then renamed, so any number of processes may share a
directory. The least recently used ones go when the directory would grow above its limit; how much
it holds is written in a file that one process at a time may change, so that the directory is looked
through only when it is full.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

_SUFFIX = ".arrow"
_UNFINISHED = ".unfinished-"
_HELD_BYTES = ".held-bytes"
_NUM_DIGITS = 20
_ABANDONED_AFTER_S = 3600
_KEPT_SHARE = 0.9  # of the limit, when old entries go: so that they do not go one by one


@dataclass(frozen=True)
class RowGroupCache:
    """A directory of row groups with an upper bound of its size.

    Data files never change once they are written, so an entry is right for as long as it exists.

    Attributes:
        directory: Where entries lie; created when needed. Give it to nothing else.
        max_bytes: Size that the entries together stay below; a row group that is larger alone is
            not kept.
    """

    directory: str
    max_bytes: int = 64 * 2**30

    def get(self, key: str, load: Callable[[], pa.Table]) -> pa.Table:
        """The rows under `key`, mapped into memory; from `load` where they are not kept."""
        path = Path(self.directory).expanduser() / f"{key}{_SUFFIX}"
        try:
            rows = _mapped(path)
            os.utime(path)
        except (OSError, pa.ArrowInvalid):
            rows = load()
            self._keep(path, rows)
        return rows

    def _keep(self, path: Path, rows: pa.Table) -> None:
        """Stores what can be stored: a full disk makes reading slower, not impossible."""
        if rows.nbytes > self.max_bytes:
            return
        temporary = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with pa.ipc.new_file(str(temporary), rows.schema) as writer:
                writer.write_table(rows)
            self._admit(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)

    def _admit(self, temporary: Path, path: Path) -> None:
        num_bytes = temporary.stat().st_size
        if num_bytes > self.max_bytes:
            temporary.unlink()
            return
        with _locked(path.with_name(_HELD_BYTES)) as file:
            held = _number_in(file)
            if held is None or held + num_bytes > self.max_bytes:
                held = self._make_room(path.parent, num_bytes)
            # Written first: a process that dies in between leaves a number that is too large.
            os.pwrite(file, f"{held + num_bytes:0{_NUM_DIGITS}}".encode(), 0)
            temporary.replace(path)

    def _make_room(self, directory: Path, num_bytes: int) -> int:
        """Removes what must go for `num_bytes` more; returns the size of what stays."""
        _remove_abandoned(directory)
        entries = []
        for path in directory.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # somebody empties the directory by hand
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        held = sum(size for _, size, _ in entries)
        if held + num_bytes <= self.max_bytes:
            return held
        for _, size, path in sorted(entries):
            if held + num_bytes <= self.max_bytes * _KEPT_SHARE:
                break
            path.unlink(missing_ok=True)
            held -= size
        return held


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A file, open, that no other process or thread has open so."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _number_in(file: int) -> int | None:
    text = os.pread(file, _NUM_DIGITS, 0)
    return int(text) if len(text) == _NUM_DIGITS and text.isdigit() else None


def _remove_abandoned(directory: Path) -> None:
    """Removes what processes that were killed while writing have left."""
    for path in directory.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink()


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
