"""What the log of a table says of its files, and whether older versions still agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.dataset.clean_up import VACUUM_REASON
from pipeline.dataset.commits import dataset_errors
from pipeline.dataset.video_table import VideoTable
from pipeline.errors import DatasetError
from pipeline.verification.findings import CheckResult

STATISTICS_COLUMNS = ("video_id", "video_uri", "clip_index")
_NUM_READERS = 8
_UNPIN = "restore the log from a copy, or unpin the version if nobody reads it any more"
_RESTORE = "put the file back from a copy, or vacuum: then the versions that need it are gone"


@dataclass(frozen=True, slots=True)
class LoggedFile:
    """A data file as the log names it.

    Attributes:
        path: Path relative to the table's root.
        size_bytes: Its size.
        num_rows: Its rows; None if the log does not say.
        ranges: Smallest and largest value of the columns that readers skip files by, where known.
    """

    path: str
    size_bytes: int
    num_rows: int | None
    ranges: Mapping[str, tuple[Any, Any]]


def logged_files(table: VideoTable, version: int | None = None) -> list[LoggedFile]:
    """The files of `table` at its version, or at another one, sorted by path.

    Raises:
        DatasetError: The log cannot be read, or has no such version any more.
    """
    at = table.version if version is None else version
    with dataset_errors(table.uri):
        log = DeltaTable(table.uri, version=at, storage_options=table.options)
        rows = pa.table(log.get_add_actions(flatten=True)).to_pylist()
    return [_logged_file(row) for row in sorted(rows, key=lambda row: row["path"])]


class VersionCheck:
    """Counts the rows of other versions in their files' footers.

    An older version whose files a vacuum has removed is gone, which breaks no promise, unless
    somebody has pinned it.
    """

    def __init__(self, table: VideoTable, num_older: int, pins: Mapping[str, int]) -> None:
        self.result = CheckResult("versions", "version")
        self._table = table
        self._num_older = num_older
        self._pins = pins
        self._rows: dict[str, int | str | None] = {}
        self._reported: set[str] = set()
        self._gone: list[int] = []

    def check(self) -> CheckResult:
        """Checks the versions before the table's own, the newest first, and all pinned ones."""
        latest = self._table.version
        older = range(latest - 1, max(-1, latest - 1 - self._num_older), -1)
        for version in dict.fromkeys([*older, *self._pins.values()]):
            pinned = sorted(name for name, held in self._pins.items() if held == version)
            try:
                files = logged_files(self._table, version)
            except DatasetError as error:
                self._gone.append(version)
                if pinned:
                    self.result.add(f"pin {pinned[0]}", str(error), _UNPIN)
            else:
                self._check_version(version, files, pinned)
        self._note_what_is_gone()
        return self.result

    def _check_version(self, version: int, files: list[LoggedFile], pinned: list[str]) -> None:
        self.result.num_checked += 1
        self._read_footers(files)
        lost = [file for file in files if self._rows[file.path] is None]
        for file in files:
            found = self._rows[file.path]
            if isinstance(found, str):
                self._report(file, found)
            elif found is not None and file.num_rows not in (None, found):
                self._report(
                    file, f"version {version}: holds {found} rows, the log says {file.num_rows}"
                )
        if not lost:
            return
        self._gone.append(version)
        if pinned:
            self._report(lost[0], f"pin {pinned[0]} (version {version}) needs it, it is missing")
        elif not self._was_vacuumed():
            self._report(lost[0], f"version {version} needs it, and no vacuum ever removed a file")

    def _read_footers(self, files: list[LoggedFile]) -> None:
        unread = [file.path for file in files if file.path not in self._rows]
        with ThreadPoolExecutor(_NUM_READERS) as readers:
            self._rows.update(zip(unread, readers.map(self._footer_rows, unread), strict=True))

    def _footer_rows(self, path: str) -> int | str | None:
        """Rows by the file's footer; None if it is not there, a text if it cannot be read."""
        filesystem = self._table.filesystem
        try:
            if filesystem.get_file_info(path).type != pa_fs.FileType.File:
                return None
            with filesystem.open_input_file(path) as source:
                return int(pq.read_metadata(source).num_rows)
        except (OSError, pa.ArrowException) as error:
            return f"cannot be read: {' '.join(str(error).split())[:300]}"

    def _was_vacuumed(self) -> bool:
        log = DeltaTable(self._table.uri, storage_options=self._table.options)
        return any(
            entry.get("sweettok.reason") == VACUUM_REASON
            or str(entry.get("operation", "")).startswith("VACUUM")
            for entry in log.history()
        )

    def _report(self, file: LoggedFile, what: str) -> None:
        if file.path not in self._reported:
            self._reported.add(file.path)
            self.result.add(f"{self._table.uri}/{file.path}", what, _RESTORE)

    def _note_what_is_gone(self) -> None:
        if self._gone:
            self.result.notes.append(
                f"versions {min(self._gone)} to {max(self._gone)} cannot be read any more: "
                "files of theirs are gone"
            )


def _logged_file(row: Mapping[str, Any]) -> LoggedFile:
    ranges = {
        name: (row[f"min.{name}"], row[f"max.{name}"])
        for name in STATISTICS_COLUMNS
        if row.get(f"min.{name}") is not None and row.get(f"max.{name}") is not None
    }
    return LoggedFile(row["path"], row["size_bytes"], row.get("num_records"), ranges)
