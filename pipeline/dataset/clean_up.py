"""Data files that nobody needs: of versions that are too old, and of runs that crashed.

Three kinds of files are never touched: those of the newest version, those of versions that are
younger than the retention or pinned, and those that are too young to be abandoned. A running job
commits a file at most `MAX_WAIT_S` after it has written it, so a grace of twice that time is safe.

Deleting can stop anywhere: what is left is found by the next clean-up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.fs as pa_fs

from pipeline.dataset.commits import dataset_errors, on_newest_state
from pipeline.dataset.pins import Pin, Pins
from pipeline.dataset.video_table import VideoTable
from pipeline.storage import is_local

VACUUM_REASON = "vacuum"
"""What the history of a table says (`sweettok.reason`) when files of old versions are deleted."""

_DATA_FILE = re.compile(r"part-.*\.parquet")
_HALF_WRITTEN = re.compile(r".*#\d+")  # beside its place, until it is whole and renamed
_NUM_DELETERS = 8


@dataclass(frozen=True, slots=True)
class UnneededFiles:
    """Files that a clean-up may delete, or has deleted: size in bytes by path.

    Attributes:
        expired: Of versions older than the retention.
        abandoned: Written by runs that ended before they could commit them.
        pinned: Not to be deleted: what would have expired if no version were pinned.
    """

    expired: dict[str, int] = field(default_factory=dict)
    abandoned: dict[str, int] = field(default_factory=dict)
    pinned: dict[str, int] = field(default_factory=dict)


def active_pins(table: VideoTable) -> list[Pin]:
    """The pins of a clip table that still protect a version."""
    return [pin for pin in Pins(table).all() if not pin.is_expired]


def unneeded_files(
    table: VideoTable, *, retention_h: int, grace: timedelta, keep_versions: Sequence[int]
) -> UnneededFiles:
    """What a clean-up of the table would delete now; moves on to its latest version.

    Args:
        table: The table.
        retention_h: Versions that were the latest one within so many hours keep their files.
        grace: Files that no commit names are abandoned when they are older than this.
        keep_versions: Versions that keep their files however old they are.

    Raises:
        DatasetError: The store refuses, or a version to keep does not exist.
    """
    table.refresh()
    expired = table.unused_files(retention_h=retention_h, keep_versions=keep_versions)
    at_all = expired
    if keep_versions:
        at_all = table.unused_files(retention_h=retention_h, keep_versions=[])
    unnamed = table.unnamed_files(keep_versions=keep_versions)
    youngest = datetime.now(UTC) - grace
    infos = {info.path: info for info in _files_of(table)}
    abandoned = {
        path
        for path in unnamed & infos.keys()
        if _DATA_FILE.fullmatch(path) and infos[path].mtime < youngest
    }

    def sizes(paths: Iterable[str]) -> dict[str, int]:
        return {path: infos[path].size for path in sorted(paths) if path in infos}

    abandoned_sizes = sizes(abandoned) | _half_written(table.uri, youngest)
    return UnneededFiles(sizes(expired), abandoned_sizes, sizes(at_all - expired))


def delete_files(
    table: VideoTable, find: Callable[[], UnneededFiles], metadata: Mapping[str, str]
) -> UnneededFiles:
    """Deletes what `find` finds twice: what was pinned in between stays; returns what it deleted.

    Before files of old versions go, an empty commit says so: from then on nobody may expect those
    versions to be complete, wherever the deletion stops.

    Raises:
        DatasetError: The store refuses; what was not deleted is found again the next time.
    """
    found = find()
    if found.expired:
        note = {**metadata, "sweettok.reason": VACUUM_REASON}
        on_newest_state(table, lambda: table.swap([], [], note, even_if_empty=True))
    again = find()
    expired = _both(found.expired, again.expired)
    abandoned = _both(found.abandoned, again.abandoned)
    with dataset_errors(table.uri), ThreadPoolExecutor(_NUM_DELETERS) as deleters:
        list(deleters.map(lambda path: _delete(table, path), expired | abandoned))
    return UnneededFiles(expired, abandoned, again.pinned)


def _both(first: Mapping[str, int], second: Collection[str]) -> dict[str, int]:
    return {path: size for path, size in first.items() if path in second}


def _delete(table: VideoTable, path: str) -> None:
    with suppress(FileNotFoundError):
        if _HALF_WRITTEN.fullmatch(path):
            Path(table.uri, path).unlink()  # the Delta file system does not show such files
        else:
            table.filesystem.delete_file(path)


def _files_of(table: VideoTable) -> list[pa_fs.FileInfo]:
    with dataset_errors(table.uri):
        infos = table.filesystem.get_file_info(pa_fs.FileSelector(""))
    return [info for info in infos if info.type == pa_fs.FileType.File]


def _half_written(uri: str, youngest: datetime) -> dict[str, int]:
    """Files that a killed process was writing; other stores than local disks never show them."""
    if not is_local(uri):
        return {}
    found = {}
    for folder in (Path(uri), Path(uri, "_delta_log")):
        for path in sorted(folder.iterdir()):
            if _HALF_WRITTEN.fullmatch(path.name):
                status = path.stat()
                if status.st_mtime < youngest.timestamp():
                    found[path.relative_to(uri).as_posix()] = status.st_size
    return found
