"""The token dataset: clip rows, their quarantine, their lineage and their tokenizer in one root.

    dataset = TokenDataset.open("s3://corpus/tokens")
    for batch in dataset.rows(["clip_id", "spatial_tokens", "temporal_tokens"]): ...

The root is an ordinary Delta table, so `polars.read_delta`, `ray.data.read_delta` and
`deltalake.DeltaTable` read the same rows without this module.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset

from pipeline.dataset.lineage import Lineage
from pipeline.dataset.schema import (
    QUARANTINE_SCHEMA,
    TOKEN_SCHEMA,
    attribute_names,
    check_attribute_names,
)
from pipeline.dataset.side_files import SideFiles, checked_name
from pipeline.dataset.storage_options import delta_storage_options
from pipeline.dataset.video_table import VideoTable, dataset_errors
from pipeline.errors import DatasetError, LineageError
from pipeline.storage import StorageConfig, is_local, normalized_uri

logger = logging.getLogger(__name__)

STATE_TOKENS = "tokens"
STATE_QUARANTINED = "quarantined"

_FINGERPRINT, _LINEAGE, _CONFIG = "sweettok.fingerprint", "sweettok.lineage", "sweettok.config"
_DEFAULT_CACHE = Path("~/.cache/sweettok/tokenizers")


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
        self.lineage = Lineage.from_json(clips.configuration[_LINEAGE])
        self._files = SideFiles(uri, clips.filesystem)

    @classmethod
    def open(
        cls, uri: str | Path, version: int | None = None, *, storage: StorageConfig | None = None
    ) -> TokenDataset:
        """Opens a dataset, at its latest version or at an older one.

        The quarantine is always the latest one.

        Raises:
            DatasetError: There is no dataset, no such version, or the table is not one of ours.
        """
        uri = normalized_uri(uri)
        options = delta_storage_options(storage)
        clips = VideoTable(uri, options, version)
        if _LINEAGE not in clips.configuration:
            raise DatasetError(
                f"{uri}: is a Delta table, but no token dataset (it has no property {_LINEAGE})"
            )
        return cls(uri, clips, VideoTable(_quarantine_uri(uri), options))

    @classmethod
    def create_or_open(
        cls,
        uri: str | Path,
        lineage: Lineage,
        *,
        config_yaml: str = "",
        storage: StorageConfig | None = None,
    ) -> TokenDataset:
        """Opens a dataset for appending rows of `lineage`; creates it if there is none.

        Args:
            uri: Local path or URI of the root.
            lineage: What makes the tokens of this run.
            config_yaml: Resolved config of the creating run, kept in the table's properties.
            storage: Storage settings.

        Raises:
            LineageError: The dataset holds tokens of another lineage.
            DatasetError: The root is a table of something else or a folder with other files.
        """
        uri = normalized_uri(uri)
        _check_local_root(uri)
        options = delta_storage_options(storage)
        # The quarantine comes first: whoever can open the dataset finds both tables.
        VideoTable.create(_quarantine_uri(uri), QUARANTINE_SCHEMA, {}, options)
        properties = {
            _FINGERPRINT: lineage.fingerprint,
            _LINEAGE: lineage.to_json(),
            _CONFIG: config_yaml,
        }
        VideoTable.create(uri, TOKEN_SCHEMA, properties, options)
        dataset = cls.open(uri, storage=storage)
        dataset.check_lineage(lineage)
        return dataset

    @property
    def version(self) -> int:
        """Version of the clip table that reads see."""
        return self.clips.version

    @property
    def config_yaml(self) -> str:
        """Resolved config of the run that created the dataset."""
        return self.clips.configuration.get(_CONFIG, "")

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
            "Ids of different lineages must not be mixed: write to another dataset, or run with "
            f"the dataset's own tokenizer and config ({self._tokenizer_folder} in the dataset)"
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
            DatasetError: A column does not exist.
        """
        with dataset_errors(self.uri):
            wanted = None if columns is None else list(columns)
            return self.arrow_dataset().scanner(columns=wanted, filter=filter).to_reader()

    def quarantine(self) -> pa.Table:
        """One row per input that gave no clip, sorted by URI.

        An input that has tokens is not in it, whatever the table behind it still says: a run may
        have been stopped between its two commits.
        """
        with dataset_errors(self.uri):
            rows = self.quarantined.arrow_dataset().to_table()
        tokenized = self.clips.fingerprints(rows["video_id"].to_pylist())
        rows = rows.filter(
            pc.invert(pc.is_in(rows["video_id"], value_set=pa.array(tokenized, pa.string())))
        )
        return rows.sort_by("video_uri")

    def finished_units(self) -> pa.Table:
        """What needs no work: columns video_id, video_fingerprint and state, a row per video.

        `state` is "tokens" or "quarantined".
        """
        states = [
            (self.clips.keys(), STATE_TOKENS),
            (self.quarantine().select(["video_id", "video_fingerprint"]), STATE_QUARANTINED),
        ]
        return pa.concat_tables(
            keys.append_column("state", pa.array([state] * keys.num_rows, pa.string()))
            for keys, state in states
        )

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
        with dataset_errors(self.uri):
            self._files.store_folder(self._tokenizer_folder, Path(local_dir))

    def tokenizer_files(self, cache_dir: str | Path = _DEFAULT_CACHE) -> Path:
        """A local directory with the tokenizer that made the tokens, fetched once and verified.

        Raises:
            DatasetError: No tokenizer was stored, or its files were altered.
        """
        with dataset_errors(self.uri):
            return self._files.fetch_folder(self._tokenizer_folder, Path(cache_dir).expanduser())

    def write_run_file(self, run_id: str, name: str, text: str) -> None:
        """Keeps `text` (a resolved config, a summary) under the run's folder."""
        path = f"_runs/{checked_name(run_id, 'run id')}/{checked_name(name, 'run file')}"
        with dataset_errors(self.uri):
            self._files.write(path, text.encode())

    def read_run_file(self, run_id: str, name: str) -> str | None:
        """What `write_run_file` kept; None if there is no such file."""
        path = f"_runs/{checked_name(run_id, 'run id')}/{checked_name(name, 'run file')}"
        with dataset_errors(self.uri):
            content = self._files.read(path)
        return None if content is None else content.decode()

    @property
    def _tokenizer_folder(self) -> str:
        return f"_tokenizer/{self.lineage.fingerprint}"


def _quarantine_uri(uri: str) -> str:
    return f"{uri}/_quarantine"


def _check_local_root(uri: str) -> None:
    if not is_local(uri):
        return
    root = Path(uri)
    if root.as_uri() != f"file://{uri}":
        logger.warning(
            "%s: some readers, Polars among them, do not open a path with spaces, '%%' or letters "
            "outside ASCII; choose another one if such readers matter",
            uri,
        )
    if not root.exists():
        return
    if not root.is_dir():
        raise DatasetError(f"{uri}: is a file, a dataset needs a folder")
    strange = sorted(path.name for path in root.iterdir() if not path.name.startswith("_"))
    if strange and not (root / "_delta_log").is_dir():
        raise DatasetError(
            f"{uri}: holds other files ({strange[0]} …) and no token dataset; choose an empty "
            "folder or one that does not exist"
        )
