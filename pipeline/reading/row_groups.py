"""Row groups of a pinned version: how many samples each has, and reading one at a time.

A row group is the unit of reading: memory is bounded by those of one window, whatever the size of
the data files. Failing reads are tried again; a damaged file is one error that names it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake.fs import DeltaStorageHandler
from jaxtyping import Int64

from pipeline.errors import DatasetError, TransientError
from pipeline.reading.row_group_cache import RowGroupCache
from pipeline.storage import StorageConfig, is_local, with_retries

Filters: TypeAlias = Sequence[tuple[str, str, Any]] | Sequence[Sequence[tuple[str, str, Any]]]
"""Conditions as pyarrow writes them: [("split", "==", "train"), …] (all of them), or a list of such
lists (any of them). Operators: ==, !=, <, <=, >, >=, in, not in."""

_NUM_READERS = 16
_OPEN_FILES = 16
_KEPT_FOOTERS = 64


@dataclass(frozen=True, eq=False)
class RowGroup:
    """One row group of one data file.

    Attributes:
        path: The data file, relative to the dataset's root.
        number: The row group's number in the file.
        num_rows: Rows in it.
        chosen: Numbers of the rows that a filter has left; None: all.
    """

    path: str
    number: int
    num_rows: int
    chosen: Int64[np.ndarray, " samples"] | None = None

    @property
    def num_samples(self) -> int:
        """Rows that are read."""
        return self.num_rows if self.chosen is None else len(self.chosen)


@dataclass(frozen=True)
class RowGroupSource:
    """Where row groups are read from; small and picklable, opened where it is used.

    Attributes:
        uri: Root of the dataset.
        options: Options of the `deltalake` library for it.
        schema: Columns of the version; files that lack one have null there.
        storage: How often a failing read is tried.
        cache: Keeps row groups on a local disk; None reads from the store each time.
    """

    uri: str
    options: dict[str, str]
    schema: pa.Schema
    storage: StorageConfig = field(default_factory=StorageConfig)
    cache: RowGroupCache | None = None

    def find(self, paths: Sequence[str], filters: Filters | None = None) -> list[RowGroup]:
        """The row groups of the data files `paths`, in that order.

        With filters only their columns are read, and of row groups whose statistics exclude them
        nothing.

        Raises:
            DatasetError: A file is missing or damaged, or a filter names no column.
        """
        condition = None if filters is None else self._condition(filters)

        def of_file(path: str) -> list[RowGroup]:
            return self._safely(path, lambda: self._groups_of(path, condition))

        with ThreadPoolExecutor(_NUM_READERS) as readers:
            return [group for groups in readers.map(of_file, paths) for group in groups]

    def read(self, group: RowGroup, columns: Sequence[str]) -> pa.Table:
        """The samples of `group`, in the file's order.

        Raises:
            DatasetError: The file is missing, damaged, or cannot be read after all attempts.
        """

        def load() -> pa.Table:
            return self._safely(group.path, lambda: self._load(group, columns))

        if self.cache is None:
            rows = load()
        else:
            key = json.dumps([self.uri, group.path, group.number, list(columns)])
            rows = self.cache.get(hashlib.sha256(key.encode()).hexdigest()[:32], load)
        return rows if group.chosen is None else rows.take(pa.array(group.chosen))

    @cached_property
    def _filesystem(self) -> pa_fs.FileSystem:
        if is_local(self.uri):
            # Maps files without the interpreter in between, and works in forked processes.
            return pa_fs.SubTreeFileSystem(self.uri, pa_fs.LocalFileSystem())
        return pa_fs.PyFileSystem(DeltaStorageHandler(self.uri, self.options))

    @cached_property
    def _footers(self) -> _Footers:
        return _Footers()

    @cached_property
    def _open_files(self) -> _OpenFiles:
        return _OpenFiles(self._footers)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def _groups_of(self, path: str, condition: _Condition | None) -> list[RowGroup]:
        if condition is None:
            found = self._footers.get(path, self._filesystem)
            sizes = [found.row_group(number).num_rows for number in range(found.num_row_groups)]
            return [RowGroup(path, number, size) for number, size in enumerate(sizes)]
        fragment = pa_dataset.ParquetFileFormat().make_fragment(path, self._filesystem)
        return [
            RowGroup(path, part.row_groups[0].id, part.row_groups[0].num_rows, condition.rows(part))
            for part in fragment.split_by_row_group(condition.expression, self.schema)
        ]

    def _load(self, group: RowGroup, columns: Sequence[str]) -> pa.Table:
        file = self._open_files.get(group.path, self._filesystem)
        known = file.schema_arrow.names
        there = [name for name in columns if name in known]
        rows = file.read_row_group(group.number, columns=there)
        arrays = [
            rows[name] if name in there else pa.nulls(group.num_rows, self.schema.field(name).type)
            for name in columns
        ]
        return pa.Table.from_arrays(arrays, names=list(columns)).combine_chunks()

    def _condition(self, filters: Filters) -> _Condition:
        with _readable_filters(filters):
            alternatives: Any = [filters] if isinstance(filters[0][0], str) else filters
            names = {name for part in alternatives for name, _, _ in part}
            expression = pq.filters_to_expression(alternatives)
        unknown = sorted(names - set(self.schema.names))
        if unknown:
            raise DatasetError(
                f"{self.uri}: a filter names the column {unknown[0]!r}, the dataset has "
                f"{', '.join(self.schema.names)}"
            )
        return _Condition(expression, sorted(names), self.schema)

    def _safely(self, path: str, action: Callable[[], Any]) -> Any:
        def attempt() -> Any:
            try:
                return action()
            except FileNotFoundError:
                raise DatasetError(
                    f"{self.uri}/{path}: is not there; the version may have been vacuumed: read a "
                    "newer one, or pin versions that are in use"
                ) from None
            except (pa.ArrowException, UnicodeDecodeError) as error:
                raise _damaged(self.uri, path, error) from error
            except OSError as error:
                # A reset connection and a page that cannot be decompressed look alike.
                self._open_files.forget(path)
                raise TransientError(str(error)) from error

        try:
            return with_retries(attempt, self.storage)
        except TransientError as error:
            raise _damaged(self.uri, path, error) from error


@dataclass(frozen=True)
class _Condition:
    expression: Any
    columns: list[str]
    schema: pa.Schema

    def rows(self, part: pa_dataset.ParquetFileFragment) -> Int64[np.ndarray, " samples"]:
        found = part.to_table(schema=self.schema, columns=self.columns)
        numbered = found.append_column("__row", pa.array(np.arange(found.num_rows)))
        return numbered.filter(self.expression)["__row"].to_numpy()


class _Footers:
    """The footers of files, for all threads: one is fetched once while it is among the latest."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, pq.FileMetaData] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str, filesystem: pa_fs.FileSystem) -> pq.FileMetaData:
        with self._lock:
            found = self._found.get(path)
        if found is None:
            with filesystem.open_input_file(path) as file:
                found = pq.read_metadata(file)
        with self._lock:
            self._found[path] = found
            self._found.move_to_end(path)
            if len(self._found) > _KEPT_FOOTERS:
                self._found.popitem(last=False)
        return found

    def forget(self, path: str) -> None:
        with self._lock:
            self._found.pop(path, None)


class _OpenFiles(threading.local):
    """The files that a thread has open."""

    def __init__(self, footers: _Footers) -> None:
        self._footers = footers
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()

    def get(self, path: str, filesystem: pa_fs.FileSystem) -> pq.ParquetFile:
        if path not in self._files:
            self._files[path] = pq.ParquetFile(
                filesystem.open_input_file(path),
                metadata=self._footers.get(path, filesystem),
                pre_buffer=True,
                page_checksum_verification=True,
            )
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(path)
        return self._files[path]

    def forget(self, path: str) -> None:
        self._footers.forget(path)
        file = self._files.pop(path, None)
        if file is not None:
            file.close()


@contextmanager
def _readable_filters(filters: Filters) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, IndexError) as error:
        raise DatasetError(
            f"filters {filters!r} cannot be read ({error}); write them as "
            "[[column, operator, value], …], with one of ==, !=, <, <=, >, >=, in, not in"
        ) from error


def _damaged(uri: str, path: str, error: Exception) -> DatasetError:
    detail = " ".join(str(error).split())[:300]
    return DatasetError(
        f"{uri}/{path}: cannot be read: {detail}; if this lasts the file is damaged: "
        "jobs/verify_dataset.py tells, and tokenizing its videos again replaces it"
    )
