"""Row groups kept on a local disk, decoded: a second epoch reads them without store or decoder.

Entries are Arrow files, written whole and then renamed, so any number of processes may share a
directory. The least recently used ones go when the directory grows above its limit.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

_SUFFIX = ".arrow"
_UNFINISHED = ".unfinished-"
_ABANDONED_AFTER_S = 3600


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
            self._make_room(path.parent, temporary.stat().st_size)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)

    def _make_room(self, directory: Path, num_bytes: int) -> None:
        _remove_abandoned(directory)
        entries = []
        for path in directory.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # another process makes room as well
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        held = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if held + num_bytes <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            held -= size


def _remove_abandoned(directory: Path) -> None:
    """Removes what processes that were killed while writing have left."""
    for path in directory.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink()


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
