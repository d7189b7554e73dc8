"""A Delta table whose rows belong to videos, changed only by compare-and-swap.

`swap` takes all rows of some videos out and puts data files in, in one atomic commit, and only if
nobody has committed since `refresh`. Whoever loses the race refreshes, looks again at which
videos are in the table, and tries again: that, and not luck, is what keeps a video from being
committed twice by two writers.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
import pyarrow.fs as pa_fs
from deltalake import DeltaTable, Schema
from deltalake.exceptions import TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import CommitProperties

from pipeline.dataset.commits import commit_actions, commit_errors, dataset_errors, on_store
from pipeline.dataset.data_files import (
    DataFile,
    read_data_file,
    read_distinct,
    read_row_groups,
    read_schema,
    remove_action,
    without_videos,
    write_data_file,
    write_tables,
)
from pipeline.dataset.key_index import KEY_COLUMNS, KeyIndex, distinct
from pipeline.dataset.side_files import SideFiles
from pipeline.dataset.table_properties import honest_dataset, wanted_properties
from pipeline.errors import DatasetError, TransientError
from pipeline.records import stable_id

_CREATE_ATTEMPTS = 3


class VideoTable:
    """One Delta table with the columns `video_id` and `video_fingerprint`.

    Args:
        uri: Root of the table.
        options: Options of the `deltalake` library.
        version: Version to read; the latest if None.
        more_key_columns: Columns that `keys` gives beside these two.

    Raises:
        DatasetError: There is no table or no such version, or it needs a reader feature that
            rewriting rows lacks.
    """

    def __init__(
        self,
        uri: str,
        options: Mapping[str, str] | None = None,
        version: int | None = None,
        more_key_columns: Sequence[str] = (),
    ) -> None:
        self.uri = uri
        self.options = dict(options or {})
        self._table = _open_table(uri, self.options, version)
        self._check_protocol()
        self.filesystem = pa_fs.PyFileSystem(DeltaStorageHandler(uri, self.options))
        self._keys = KeyIndex(uri, (*KEY_COLUMNS, *more_key_columns), self._read_keys)
        self._rests: dict[tuple[str, str], DataFile | None] = {}

    @staticmethod
    def create(
        uri: str,
        schema: pa.Schema,
        configuration: Mapping[str, str],
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Creates an empty table; a table that is already there is left as it is."""
        options = dict(options or {})
        for attempt in range(1, _CREATE_ATTEMPTS + 1):
            try:
                with commit_errors(uri):
                    DeltaTable.create(
                        uri,
                        schema,
                        mode="ignore",
                        configuration={**wanted_properties(schema), **configuration},
                        storage_options=options,
                        raise_if_key_not_exists=False,
                    )
            except TransientError as error:
                if VideoTable.exists(uri, options):
                    return
                if attempt == _CREATE_ATTEMPTS:
                    raise DatasetError(str(error)) from error
            else:
                return

    @staticmethod
    def exists(uri: str, options: Mapping[str, str] | None = None) -> bool:
        """Whether there is a Delta table at `uri`."""
        return on_store(uri, lambda: bool(DeltaTable.is_deltatable(uri, dict(options or {}))))

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

    def num_rows_of(self, video_ids: pa.Array) -> int:
        """Rows of some videos in the table; reads one column of the files that may hold them."""
        if not len(video_ids):
            return 0
        wanted = pc.field("video_id").isin(video_ids)
        return on_store(self.uri, lambda: int(self.arrow_dataset().count_rows(filter=wanted)))

    def arrow_dataset(self) -> pa_dataset.Dataset:
        """The table at this version, as a lazy pyarrow dataset."""
        with dataset_errors(self.uri):
            return honest_dataset(self._table.to_pyarrow_dataset(), self.configuration)

    def file_sizes(self) -> dict[str, int]:
        """Size in bytes of every data file of this version, by path."""
        actions = pa.table(self._table.get_add_actions())
        return dict(
            zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True)
        )

    def first_videos(self) -> dict[str, str]:
        """The smallest video URI in every data file of this version, by path; "" if unknown."""
        actions = pa.table(self._table.get_add_actions(flatten=True))
        paths = actions["path"].to_pylist()
        if "min.video_uri" not in actions.column_names:
            return dict.fromkeys(paths, "")
        uris = actions["min.video_uri"].to_pylist()
        return {path: uri or "" for path, uri in zip(paths, uris, strict=True)}

    def checkpoint(self) -> None:
        """Writes the log's state at this version into one file, if that was not done yet.

        Who opens the table reads this file and the few commits after it.
        """
        latest = SideFiles(self.uri, self.filesystem).read("_delta_log/_last_checkpoint")
        with dataset_errors(self.uri):
            if latest is None or json.loads(latest)["version"] < self.version:
                self._table.create_checkpoint()

    def unused_files(self, *, retention_h: int, keep_versions: Sequence[int]) -> set[str]:
        """Files that were removed from the table more than so many hours ago.

        Args:
            retention_h: Hours.
            keep_versions: Versions whose files are not among them.
        """
        return self._vacuum_candidates(retention_h, False, keep_versions)

    def unnamed_files(self, *, keep_versions: Sequence[int]) -> set[str]:
        """Files in the table's folder that no commit names, neither now nor before."""
        named_once = self._vacuum_candidates(0, False, [])
        return self._vacuum_candidates(0, True, keep_versions) - named_once

    def _vacuum_candidates(
        self, retention_h: int, full: bool, keep_versions: Sequence[int]
    ) -> set[str]:
        with dataset_errors(self.uri):
            found = self._table.vacuum(
                retention_h,
                dry_run=True,
                enforce_retention_duration=False,
                full=full,
                keep_versions=list(keep_versions) or None,
            )
        return set(found)

    def refresh(self) -> None:
        """Moves on to the latest version."""
        on_store(self.uri, self._table.update_incremental)
        self._check_protocol()

    def keys(self) -> pa.Table:
        """The distinct pairs (video_id, video_fingerprint) of this version."""
        return distinct(self._current_keys().keys_of(None))

    def stream_keys(self) -> Iterator[pa.Table]:
        """The keys of one data file after the other, with packed ids; nothing of them is kept."""
        return self._keys.stream(self.file_sizes())

    def keys_of(self, video_ids: pa.Array) -> pa.Table:
        """The rows of `keys` whose video is one of `video_ids`."""
        return distinct(self._current_keys().keys_of(video_ids))

    def fingerprints(self, video_ids: Collection[str] | pa.Array) -> dict[str, str]:
        """The fingerprint at which each of `video_ids` is in this version, where it is."""
        found = self.keys_of(pa.array(video_ids, pa.string()))
        return dict(zip(*(found[name].to_pylist() for name in KEY_COLUMNS), strict=True))

    def write(self, rows: pa.Table) -> DataFile:
        """Writes `rows` as a data file that no commit names yet."""
        return on_store(self.uri, lambda: write_data_file(rows, self.filesystem))

    def write_tables(self, tables: Iterable[pa.Table]) -> DataFile:
        """Writes the rows of all `tables` as one data file that no commit names yet."""
        with dataset_errors(self.uri):
            return write_tables(tables, self.schema, self.filesystem)

    def write_without(self, path: str, video_ids: pa.Array) -> DataFile:
        """Writes the rows of one data file but those of `video_ids` as another one.

        Holds a row group in memory, however large the file is.
        """

        def write() -> DataFile:
            groups = read_row_groups(path, self.filesystem)
            schema = read_schema(path, self.filesystem)
            kept = (without_videos(rows, video_ids) for rows in groups)
            return write_tables(kept, schema, self.filesystem)

        return on_store(self.uri, write)

    def read(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one data file, committed or not."""
        return on_store(self.uri, lambda: read_data_file(path, self.filesystem, columns))

    def swap(
        self,
        outgoing: Collection[str] | pa.Array,
        incoming: Sequence[DataFile],
        metadata: Mapping[str, str],
        *,
        even_if_empty: bool = False,
    ) -> None:
        """Takes the rows of the videos `outgoing` out and puts `incoming` in, in one commit.

        Without anything to change there is no commit. The files that held outgoing rows are
        replaced by files with their other rows; versions before this one still read them.

        Args:
            outgoing: Ids of videos; rows of `incoming` are not touched by them.
            incoming: Files written by `write`.
            metadata: Recorded in the commit's info.
            even_if_empty: Commit although nothing changes: other writers have to look again.

        Raises:
            CommitConflictError: The table has moved on since `refresh`.
            StoreFailureError: The store failed; the commit has not happened.
            DatasetError: The store or the table refuses.
        """
        leaving = pa.array(outgoing, pa.string())
        touched = self._current_keys().files_with(leaving) if len(leaving) else {}
        if not touched and not incoming and not even_if_empty:
            return
        sizes = self.file_sizes() if touched else {}
        actions = [remove_action(path, sizes[path]) for path in touched]
        rests = [self._rest_of(path, video_ids) for path, video_ids in touched.items()]
        files = [*(rest for rest in rests if rest is not None), *incoming]
        actions.extend(file.add_action() for file in files)
        commit_actions(self._table, actions, self.schema, metadata)
        self._rests.clear()
        self.refresh()

    def replace_files(
        self, paths: Sequence[str], replacement: DataFile, metadata: Mapping[str, str]
    ) -> bool:
        """Puts a file in the place of others that hold the same rows; no reader sees a change.

        Returns:
            Whether it was done: False if one of `paths` is not in this version any more.

        Raises:
            CommitConflictError, StoreFailureError, DatasetError: As `swap`.
        """
        sizes = self.file_sizes()
        if any(path not in sizes for path in paths):
            return False
        actions = [remove_action(path, sizes[path], data_change=False) for path in paths]
        actions.append(replacement.add_action(data_change=False))
        commit_actions(self._table, actions, self.schema, metadata)
        self.refresh()
        return True

    def add_string_columns(self, names: Sequence[str]) -> None:
        """Adds those of `names` that the table lacks, in a commit of their own.

        Raises:
            CommitConflictError: The table has moved on since `refresh`.
        """
        self.add_columns([pa.field(name, pa.string()) for name in names])

    def add_columns(self, columns: Sequence[pa.Field]) -> None:
        """Adds those of `columns` whose names the table lacks; older rows hold null there.

        Raises:
            CommitConflictError: The table has moved on since `refresh`.
        """
        lacking = [column for column in columns if column.name not in self.schema.names]
        if not lacking:
            return
        fields = Schema.from_arrow(pa.schema(lacking)).fields
        with commit_errors(self.uri):
            self._table.alter.add_columns(
                fields, commit_properties=CommitProperties(max_commit_retries=0)
            )
        self.refresh()

    def ensure_properties(self) -> None:
        """Gives a table of an earlier version the properties that it lacks.

        Raises:
            CommitConflictError: The table has moved on since `refresh`.
        """
        wanted = wanted_properties(self.schema)
        if wanted.items() <= self.configuration.items():
            return
        with commit_errors(self.uri):
            self._table.alter.set_table_properties(
                wanted, commit_properties=CommitProperties(max_commit_retries=0)
            )
        self.refresh()

    def _rest_of(self, path: str, leaving: pa.Array) -> DataFile | None:
        """A file with the rows of `path` but those of `leaving`; None if none is left.

        It is kept for the next attempt: while others commit small files, a deletion that has many
        files to write must not have to write them all again.
        """
        key = (path, stable_id(*leaving.to_pylist()))
        if key in self._rests:
            rest = self._rests[key]
            if rest is None or rest.is_fresh:
                return rest
        rest = None
        if len(leaving) < self._keys.num_videos(path):
            rest = self.write_without(path, leaving)
        self._rests[key] = rest
        return rest

    def _read_keys(self, path: str, columns: Sequence[str]) -> pa.Table:
        return on_store(self.uri, lambda: read_distinct(path, self.filesystem, columns))

    def _current_keys(self) -> KeyIndex:
        self._keys.move_to(self.file_sizes())
        return self._keys

    def _check_protocol(self) -> None:
        features = self._table.protocol().reader_features
        if features:
            raise DatasetError(
                f"{self.uri}: the table asks for the reader features {', '.join(features)}, which "
                "this pipeline does not write; copy the rows into a new dataset without them"
            )


def _open_table(uri: str, options: dict[str, str], version: int | None) -> DeltaTable:
    try:
        return on_store(uri, lambda: DeltaTable(uri, version=version, storage_options=options))
    except DatasetError as error:
        if isinstance(error.__cause__, TableNotFoundError):
            raise DatasetError(f"{uri}: there is no Delta table") from None
        newest = None if version is None else _open_table(uri, options, None).version()
        if version is not None and newest is not None and version > newest:
            raise DatasetError(f"{uri}: has no version {version}; the newest is {newest}") from None
        raise
