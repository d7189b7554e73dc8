"""The token dataset: clip rows, their quarantine, their lineage and their tokenizer in one root.

    dataset = TokenDataset.open("s3://corpus/tokens")
    for batch in dataset.rows(["clip_id", "spatial_tokens", "temporal_tokens"]): ...

The root is an ordinary Delta table, so `polars.read_delta`, `ray.data.read_delta` and
`deltalake.DeltaTable` read the same rows without this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset

from pipeline.dataset import deletion
from pipeline.dataset.commits import StoreFailureError, dataset_errors, on_newest_state, on_store
from pipeline.dataset.creation import (
    CONFIG,
    LINEAGE,
    PREDECESSOR,
    check_creatable,
    create_tables,
    open_clips,
    open_quarantine,
)
from pipeline.dataset.finished_units import FinishedUnits
from pipeline.dataset.lineage import Lineage, Predecessor
from pipeline.dataset.pins import Pin, Pins
from pipeline.dataset.schema import attribute_names, check_attribute_names, lacking_columns
from pipeline.dataset.side_files import SideFiles, checked_name
from pipeline.dataset.storage_options import delta_storage_options
from pipeline.dataset.video_table import VideoTable
from pipeline.errors import DatasetError, LineageError, QuarantineReason
from pipeline.storage import StorageConfig, normalized_uri

TOKENIZER_CACHE = "~/.cache/sweettok/tokenizers"
"""Where `TokenDataset.tokenizer_files` keeps its copies unless it is told otherwise."""


class TokenDataset:
    """A token dataset at one version.

    Use `open` to read and `create_or_open` to write; rows are written by a `Committer`.

    Attributes:
        uri: Root of the dataset.
        clips: The Delta table of clip rows.
        quarantined: The Delta table of inputs that gave no clip.
        lineage: What made the tokens.
    """

    def __init__(self, uri: str, clips: VideoTable, quarantined: VideoTable) -> None:
        self.uri = uri
        self.clips = clips
        self.quarantined = quarantined
        self.lineage = Lineage.from_json(clips.configuration[LINEAGE])
        self._files = SideFiles(uri, clips.filesystem)

    @classmethod
    def open(
        cls,
        uri: str | Path,
        version: int | None = None,
        *,
        pin: str | None = None,
        storage: StorageConfig | None = None,
    ) -> TokenDataset:
        """Opens a dataset, at its latest version, at an older one, or at the one a pin names.

        The quarantine is always the latest one.

        Raises:
            DatasetError: There is no dataset, no such version or pin, or the table is not one of
                ours.
        """
        uri = normalized_uri(uri)
        options = delta_storage_options(storage)
        clips = open_clips(uri, options, version)
        if pin is not None:
            found = Pins(clips).get(pin)
            if found is None or version is not None:
                wrong = "there is no pin" if found is None else "either a version or the pin"
                raise DatasetError(f"{uri}: {wrong} {pin!r}")
            clips = open_clips(uri, options, found.version)
        return cls(uri, clips, open_quarantine(uri, options))

    @staticmethod
    def exists(uri: str | Path, *, storage: StorageConfig | None = None) -> bool:
        """Whether there is a table at `uri`; `open` says whether it is a token dataset.

        Raises:
            DatasetError: The store refuses.
        """
        return VideoTable.exists(normalized_uri(uri), delta_storage_options(storage))

    @staticmethod
    def finished_before(
        uri: str | Path,
        lineage: Lineage,
        *,
        storage: StorageConfig | None = None,
        new_version_of: str | Path | None = None,
    ) -> FinishedUnits:
        """The `finished_units` of a dataset that `create_or_open` would create; creates nothing.

        They are what was taken down in the dataset that it continues.

        Raises:
            DatasetError: `create_or_open` would refuse.
        """
        uri = normalized_uri(uri)
        older = None if new_version_of is None else normalized_uri(new_version_of)
        check_creatable(uri, lineage, delta_storage_options(storage), older)
        check_creatable(uri, lineage, delta_storage_options(storage), older)
        if older is None:
            return FinishedUnits.none()
        return FinishedUnits.taken_down_in(TokenDataset.open(older, storage=storage).quarantined)

    @classmethod
    def create_or_open(
        cls,
        uri: str | Path,
        lineage: Lineage,
        *,
        config_yaml: str = "",
        storage: StorageConfig | None = None,
        new_version_of: str | Path | None = None,
    ) -> TokenDataset:
        """Opens a dataset for appending rows of `lineage`; creates it if there is none.

        Args:
            uri: Local path or URI of the root.
            lineage: What makes the tokens of this run.
            config_yaml: Resolved config of the creating run, kept in the table's properties.
            storage: Storage settings.
            new_version_of: Root of a dataset of another lineage that this one continues. It is
                recorded here, and what was taken down there is taken down here.

        Raises:
            LineageError: The dataset holds tokens of another lineage.
            DatasetError: The root is a table of something else or a folder with other files, or
                cannot be made, or the dataset there does not continue `new_version_of`.
        """
        uri = normalized_uri(uri)
        older = None if new_version_of is None else normalized_uri(new_version_of)
        create_tables(uri, lineage, config_yaml, delta_storage_options(storage), older)
        dataset = cls.open(uri, storage=storage)
        dataset.check_lineage(lineage)
        dataset._bring_up_to_date()
        return dataset

    @property
    def version(self) -> int:
        """Version of the clip table that reads see."""
        return self.clips.version

    @property
    def config_yaml(self) -> str:
        """Resolved config of the run that created the dataset."""
        return self.clips.configuration.get(CONFIG, "")

    @property
    def predecessor(self) -> Predecessor | None:
        """The dataset of another lineage that this one continues, if it was created for that."""
        text = self.clips.configuration.get(PREDECESSOR)
        return None if text is None else Predecessor.from_json(text)

    @property
    def attribute_names(self) -> list[str]:
        """The user's own columns, in order."""
        return attribute_names(self.clips.schema)

    def refresh(self) -> None:
        """Moves on to the latest version."""
        self.clips.refresh()
        self.quarantined.refresh()

    def check_lineage(self, lineage: Lineage) -> None:
        """Refuses rows of another lineage.

        Raises:
            LineageError: With one line per field that differs, and what to do.
        """
        difference = self.lineage.difference(lineage)
        if not difference:
            return
        lines = "\n".join(f"  {line}" for line in difference)
        raise LineageError(
            f"{self.uri}: holds tokens of another lineage (dataset → this run):\n{lines}\n"
            "Ids of different lineages must not be mixed: write to another dataset "
            f"(dataset.new_version_of={self.uri} there says what it continues), or run with the "
            f"dataset's own tokenizer and config ({self._tokenizer_folder} in the dataset)"
        )

    def num_clips(self) -> int:
        """Clip rows at this version."""
        return self.clips.num_rows()

    def arrow_dataset(self) -> pa_dataset.Dataset:
        """The clip rows as a lazy pyarrow dataset, for DuckDB and everything that takes one."""
        return self.clips.arrow_dataset()

    def rows(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002
    ) -> pa.RecordBatchReader:
        """Streams the clip rows in record batches; within a data file they are in clip order.

        Args:
            columns: Names of the columns to read; all if None.
            filter: Keeps only the rows for which this pyarrow expression is true.

        Raises:
            DatasetError: A column does not exist. While streaming: a file was altered, or the
                version was vacuumed.
        """
        with dataset_errors(self.uri):
            wanted = None if columns is None else list(columns)
            reader = self.arrow_dataset().scanner(columns=wanted, filter=filter).to_reader()
        return pa.RecordBatchReader.from_batches(reader.schema, self._stream(reader))

    def quarantine(self) -> pa.Table:
        """One row per input that gave no clip, sorted by URI.

        An input that has tokens is not in it, whatever the table behind it still says: a run may
        have been stopped between its two commits. What was taken down is always in it.
        """
        rows = on_store(self.uri, lambda: self.quarantined.arrow_dataset().to_table())
        return rows.filter(self._is_quarantined(rows)).sort_by("video_uri")

    def finished_units(self) -> FinishedUnits:
        """What needs no work; it is read from this version whenever it is iterated."""
        return FinishedUnits(self.clips.stream_keys, self.quarantined.keys())

    def taken_down_ids(self) -> pa.Array:
        """Ids of the videos that were taken down and must never be tokenized again."""
        keys = self.quarantined.keys()
        return keys.filter(_is_taken_down(keys["reason"]))["video_id"].combine_chunks()

    def delete_videos(self, video_ids: pa.Array, *, run_id: str, reason: str) -> int:
        """Takes all rows of videos out of both tables, with one commit to each that has any.

        Takedowns stay. Versions before this one still read the rows.

        Args:
            video_ids: string array [num_videos]; ids that are not there do not matter.
            run_id: Name of the run, recorded in the commits.
            reason: Why, recorded in the commits.

        Returns:
            How many of the videos had rows.

        Raises:
            DatasetError: The store refuses, or other writers win every attempt.
        """
        return deletion.delete_videos(self, video_ids, run_id=run_id, reason=reason)

    def take_down(self, videos: Sequence[str], *, run_id: str, reason: str) -> deletion.Removal:
        """Deletes videos, and keeps every later run from tokenizing them again.

        The bytes are gone once maintenance has vacuumed the versions that still hold them.

        Args:
            videos: URIs or ids; a URI may be one that the dataset has never seen.
            run_id: Name of the run, stored with the quarantine rows.
            reason: Why, for people: the message of the quarantine rows.

        Returns:
            What was forbidden and deleted, and which of `videos` the dataset has never seen.

        Raises:
            DatasetError: An id is unknown, or the store refuses.
        """
        return deletion.take_down(self, videos, run_id=run_id, reason=reason)

    def lift_takedown(self, videos: Sequence[str], *, run_id: str) -> int:
        """Lets videos in again: the next run tokenizes them; returns how many were taken down."""
        return deletion.lift_takedown(self, videos, run_id=run_id)

    def pins(self) -> list[Pin]:
        """The named versions that vacuum leaves alone, expired ones too."""
        with dataset_errors(self.uri):
            return Pins(self.clips).all()

    def pin(self, name: str, *, version: int | None = None, days: float | None = None) -> Pin:
        """Gives a version a name and protects its files from vacuum; again to prolong it.

        Args:
            name: Name of the pin; open the version with `TokenDataset.open(uri, pin=name)`.
            version: Which version; the one that this object reads if None.
            days: For how long; for ever (until `unpin`) if None.

        Raises:
            DatasetError: The name is taken, or the version was vacuumed.
        """
        with dataset_errors(self.uri):
            return Pins(self.clips).set(name, self.version if version is None else version, days)

    def unpin(self, name: str) -> bool:
        """Removes a pin; returns whether there was one."""
        with dataset_errors(self.uri):
            return Pins(self.clips).remove(name)

    def add_attributes(self, names: Sequence[str]) -> None:
        """Gives the clip table the user's columns `names`, where it lacks them.

        Raises:
            DatasetError: A name cannot be a column beside ours and those already there.
            CommitConflictError: The table has moved on since `refresh`.
        """
        check_attribute_names([*self.attribute_names, *names])
        self.clips.add_string_columns(names)

    def store_tokenizer(self, local_dir: str | Path) -> None:
        """Copies the tokenizer's files into the dataset; does nothing if they are there.

        Raises:
            DatasetError: `local_dir` holds no files, or the dataset holds another tokenizer.
        """
        folder = self._tokenizer_folder
        on_store(self.uri, lambda: self._files.store_folder(folder, Path(local_dir)))

    def tokenizer_files(self, cache_dir: str | Path = TOKENIZER_CACHE) -> Path:
        """A local directory with the tokenizer that made the tokens, fetched once and verified.

        Raises:
            DatasetError: No tokenizer was stored, or its files were altered.
        """
        folder, cache = self._tokenizer_folder, Path(cache_dir).expanduser()
        return on_store(self.uri, lambda: self._files.fetch_folder(folder, cache))

    def write_run_file(self, run_id: str, name: str, text: str) -> None:
        """Keeps `text` (a resolved config, a summary) under the run's folder."""
        path = f"_runs/{checked_name(run_id, 'run id')}/{checked_name(name, 'run file')}"
        on_store(self.uri, lambda: self._files.write(path, text.encode()))

    def read_run_file(self, run_id: str, name: str) -> str | None:
        """What `write_run_file` kept; None if there is no such file."""
        path = f"_runs/{checked_name(run_id, 'run id')}/{checked_name(name, 'run file')}"
        content = on_store(self.uri, lambda: self._files.read(path))
        return None if content is None else content.decode()

    def _stream(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            with dataset_errors(self.uri):
                yield from reader
        except StoreFailureError as error:
            raise DatasetError(
                f"{self.uri}: version {self.version} is not complete: a file is missing, probably "
                f"because the version was vacuumed (pinned ones never are): {error}"
            ) from error

    def _bring_up_to_date(self) -> None:
        """Gives tables of an earlier version the columns and properties that were added since."""
        on_newest_state(self, lambda: self.clips.add_columns(lacking_columns(self.clips.schema)))
        for table in (self.clips, self.quarantined):
            on_newest_state(table, table.ensure_properties)

    def _is_quarantined(self, rows: pa.Table) -> pa.ChunkedArray:
        tokenized = self.clips.keys_of(rows["video_id"].combine_chunks())["video_id"]
        has_tokens = pc.is_in(rows["video_id"], value_set=tokenized.combine_chunks())
        return pc.or_(pc.invert(has_tokens), _is_taken_down(rows["reason"]))

    @property
    def _tokenizer_folder(self) -> str:
        return f"_tokenizer/{self.lineage.fingerprint}"


def _is_taken_down(reasons: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.equal(reasons, QuarantineReason.TAKEN_DOWN.value)
