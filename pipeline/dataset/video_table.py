"""A Delta table whose rows belong to videos, changed only by compare-and-swap.

`swap` takes all rows of some videos out and puts data files in, in one atomic commit, and only if
nobody has committed since `refresh`. Whoever loses the race refreshes, looks again at which
videos are in the table, and tries again: that, and not luck, is what keeps a video from being
committed twice by two writers.

The library's own retry is switched off (`max_commit_retries=0`): it re-submits a commit on top of
another one without asking whether the same rows are already there, and it lets a file be removed
that a concurrent compaction has already replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
import pyarrow.fs as pa_fs
from deltalake import DeltaTable, Field
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import CommitProperties

from pipeline.dataset.data_files import (
    DataFile,
    read_data_file,
    remove_action,
    without_videos,
    write_data_file,
)
from pipeline.errors import DatasetError, TransientError

_KEY_COLUMNS = ("video_id", "video_fingerprint")
_NUM_READERS = 8


class CommitConflictError(TransientError):
    """Somebody else committed first; refresh and decide again."""


@contextmanager
def dataset_errors(uri: str) -> Iterator[None]:
    """Turns what the storage and the Delta library raise into a readable `DatasetError`."""
    try:
        yield
    except (DeltaError, OSError, pa.ArrowException) as error:
        line = " ".join(str(error).split())[:500]
        raise DatasetError(f"{uri}: {line or type(error).__name__}") from error


class VideoTable:
    """One Delta table with the columns `video_id` and `video_fingerprint`.

    Args:
        uri: Root of the table.
        options: Options of the `deltalake` library.
        version: Version to read; the latest if None.

    Raises:
        DatasetError: There is no table, or it needs a reader feature that rewriting rows lacks.
    """

    def __init__(
        self, uri: str, options: Mapping[str, str] | None = None, version: int | None = None
    ) -> None:
        self.uri = uri
        self.options = dict(options or {})
        try:
            with dataset_errors(uri):
                self._table = DeltaTable(uri, version=version, storage_options=self.options)
        except DatasetError as error:
            if isinstance(error.__cause__, TableNotFoundError):
                raise DatasetError(f"{uri}: there is no Delta table") from None
            raise
        self._check_protocol()
        self.filesystem = pa_fs.PyFileSystem(DeltaStorageHandler(uri, self.options))
        self._keys: dict[str, pa.Table] = {}

    @staticmethod
    def create(
        uri: str,
        schema: pa.Schema,
        configuration: Mapping[str, str],
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Creates an empty table; a table that is already there is left as it is."""
        with dataset_errors(uri):
            try:
                DeltaTable.create(
                    uri,
                    schema,
                    mode="ignore",
                    configuration=dict(configuration),
                    storage_options=dict(options or {}),
                    raise_if_key_not_exists=False,
                )
            except DeltaError:
                if not DeltaTable.is_deltatable(uri, dict(options or {})):
                    raise

    @property
    def version(self) -> int:
        """Version of the table that reads see."""
        return int(self._table.version())

    @property
    def configuration(self) -> dict[str, str]:
        """The table's properties."""
        return dict(self._table.metadata().configuration)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table."""
        return pa.schema(self._table.schema().to_arrow())

    def num_rows(self) -> int:
        """Rows in the table, from the log alone where the log knows."""
        with dataset_errors(self.uri):
            return int(self._table.count())

    def arrow_dataset(self) -> pa_dataset.Dataset:
        """The table at this version, as a lazy pyarrow dataset."""
        with dataset_errors(self.uri):
            return self._table.to_pyarrow_dataset()

    def file_sizes(self) -> dict[str, int]:
        """Size in bytes of every data file of this version, by path."""
        actions = pa.table(self._table.get_add_actions())
        return dict(
            zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True)
        )

    def refresh(self) -> None:
        """Moves on to the latest version."""
        with dataset_errors(self.uri):
            self._table.update_incremental()
        self._check_protocol()

    def keys(self) -> pa.Table:
        """The distinct pairs (video_id, video_fingerprint) of this version."""
        tables = self._keys_by_file().values()
        empty = pa.table({name: pa.array([], pa.string()) for name in _KEY_COLUMNS})
        return _distinct(pa.concat_tables([empty, *tables]))

    def fingerprints(self, video_ids: Collection[str]) -> dict[str, str]:
        """The fingerprint at which each of `video_ids` is in this version, where it is."""
        wanted = pa.array(video_ids, pa.string())
        found: dict[str, str] = {}
        for keys in self._keys_by_file().values():
            hits = keys.filter(pc.is_in(keys["video_id"], value_set=wanted))
            found.update(zip(*(hits[name].to_pylist() for name in _KEY_COLUMNS), strict=True))
        return found

    def write(self, rows: pa.Table) -> DataFile:
        """Writes `rows` as a data file that no commit names yet."""
        with dataset_errors(self.uri):
            return write_data_file(rows, self.filesystem)

    def read(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one data file, committed or not."""
        with dataset_errors(self.uri):
            return read_data_file(path, self.filesystem, columns)

    def swap(
        self, outgoing: Collection[str], incoming: Sequence[DataFile], metadata: dict[str, Any]
    ) -> None:
        """Takes the rows of the videos `outgoing` out and puts `incoming` in, in one commit.

        Without anything to change there is no commit. The files that held outgoing rows are
        replaced by files with their other rows; versions before this one still read them.

        Args:
            outgoing: Ids of videos; rows of `incoming` are not touched by them.
            incoming: Files written by `write`.
            metadata: Recorded in the commit's info.

        Raises:
            CommitConflictError: The table has moved on since `refresh`.
            DatasetError: The store or the table refuses.
        """
        outgoing_ids = pa.array(outgoing, pa.string())
        touched = [
            path
            for path, keys in self._keys_by_file().items()
            if pc.any(pc.is_in(keys["video_id"], value_set=outgoing_ids)).as_py()
        ]
        if not touched and not incoming:
            return
        sizes = self.file_sizes() if touched else {}
        actions = [remove_action(path, sizes[path]) for path in touched]
        for path in touched:
            rest = without_videos(self.read(path), outgoing_ids)
            if rest.num_rows:
                actions.append(self.write(rest).add_action())
        actions.extend(file.add_action() for file in incoming)
        self._commit(actions, metadata)

    def add_string_columns(self, names: Sequence[str]) -> None:
        """Adds those of `names` that the table lacks, in a commit of their own.

        Raises:
            CommitConflictError: The table has moved on since `refresh`.
        """
        lacking = [name for name in names if name not in self.schema.names]
        if not lacking:
            return
        fields = [Field(name, "string") for name in lacking]
        with dataset_errors(self.uri):
            try:
                self._table.alter.add_columns(
                    fields, commit_properties=CommitProperties(max_commit_retries=0)
                )
            except CommitFailedError as error:
                raise CommitConflictError(str(error)) from None
        self.refresh()

    def _commit(self, actions: list[Any], metadata: dict[str, Any]) -> None:
        properties = CommitProperties(custom_metadata=metadata, max_commit_retries=0)
        with dataset_errors(self.uri):
            try:
                self._table.create_write_transaction(
                    actions, "append", self.schema, commit_properties=properties
                )
            except CommitFailedError as error:
                raise CommitConflictError(str(error)) from None
        self.refresh()

    def _keys_by_file(self) -> dict[str, pa.Table]:
        paths = self.file_sizes()
        unread = [path for path in paths if path not in self._keys]
        if unread:
            with ThreadPoolExecutor(_NUM_READERS) as readers:
                read = readers.map(lambda path: _distinct(self.read(path, _KEY_COLUMNS)), unread)
                self._keys.update(zip(unread, read, strict=True))
        self._keys = {path: self._keys[path] for path in paths}
        return self._keys

    def _check_protocol(self) -> None:
        features = self._table.protocol().reader_features
        if features:
            raise DatasetError(
                f"{self.uri}: the table asks for the reader features {', '.join(features)}, which "
                "this pipeline does not write; copy the rows into a new dataset without them"
            )


def _distinct(keys: pa.Table) -> pa.Table:
    return keys.group_by(list(_KEY_COLUMNS)).aggregate([]).combine_chunks()
