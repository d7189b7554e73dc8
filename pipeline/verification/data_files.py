"""Every data file of one version of a table: there, whole, readable, of the right form."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq

from pipeline.dataset.data_files import content_hash_in
from pipeline.storage import is_local, local_path
from pipeline.verification.findings import CheckResult
from pipeline.verification.table_log import LoggedFile

_BLOCK_BYTES = 8 * 2**20
_BATCH_ROWS = 8192
WITHOUT_A_COPY = (
    "delete the file, take it out of the log with deltalake.DeltaTable(uri).repair(), and run "
    "jobs/tokenize_corpus.py, which finds its videos missing and makes their clips again"
)
"""What helps against a file that is not what it should be, as long as its videos are there."""
_RESTORE = f"put the file back from a copy; without one, {WITHOUT_A_COPY}"

BatchVisitor = Callable[[pa.RecordBatch, int], None]
"""Takes a batch of a file's rows and the number of its first row."""


@dataclass(frozen=True)
class TableFiles:
    """Where the files of a table are and what they must be.

    Attributes:
        uri: Root of the table.
        filesystem: A filesystem with that root.
        schema: The table's columns.
        optional: Columns that a file may lack (they were added later).
        scratch: Local directory for copies of remote files.
    """

    uri: str
    filesystem: pa_fs.FileSystem
    schema: pa.Schema
    optional: frozenset[str]
    scratch: Path

    def where(self, file: LoggedFile) -> str:
        """The file's name for people."""
        return f"{self.uri}/{file.path}"


def check_file(files: TableFiles, file: LoggedFile, visit: BatchVisitor) -> CheckResult:
    """Checks one file and hands its rows on; stops at the first thing that is wrong with it.

    Rows of a file with a finding may have been handed on in part.
    """
    result = CheckResult("data files", "file", num_checked=1)
    try:
        fault = _presence_fault(files, file) or _content_fault(files, file, visit)
    except (OSError, pa.ArrowException) as error:
        fault = f"cannot be read: {' '.join(str(error).split())[:300] or type(error).__name__}"
    if fault:
        result.add(files.where(file), fault, _RESTORE)
    return result


def _presence_fault(files: TableFiles, file: LoggedFile) -> str | None:
    info = files.filesystem.get_file_info(file.path)
    if info.type != pa_fs.FileType.File:
        return "is missing, although the log names it"
    if info.size != file.size_bytes:
        return f"has {info.size:,} bytes, the log says {file.size_bytes:,}"
    return None


def _content_fault(files: TableFiles, file: LoggedFile, visit: BatchVisitor) -> str | None:
    with _local_file(files, file) as (path, sha256):
        expected = content_hash_in(file.path)
        if expected is not None and not sha256.startswith(expected):
            return (
                f"its SHA-256 begins with {sha256[: len(expected)]}, its name says {expected}: "
                "its bytes were altered"
            )
        with pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as parquet:
            fault = _schema_fault(parquet.schema_arrow, files)
            if fault is None:
                fault = _visit_rows(parquet, file, visit)
    return fault


@contextmanager
def _local_file(files: TableFiles, file: LoggedFile) -> Iterator[tuple[Path, str]]:
    """The file on this machine, and the SHA-256 of its bytes."""
    digest = hashlib.sha256()
    with files.filesystem.open_input_stream(file.path) as source:
        if is_local(files.uri):
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
            yield Path(local_path(files.uri)) / file.path, digest.hexdigest()
            return
        with tempfile.NamedTemporaryFile(dir=files.scratch, suffix=".parquet") as copy:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                copy.write(block)
            copy.flush()
            yield Path(copy.name), digest.hexdigest()


def _schema_fault(found: pa.Schema, files: TableFiles) -> str | None:
    for column in files.schema:
        if column.name not in found.names:
            if column.name not in files.optional:
                return f"lacks the column {column.name}"
        elif not _same_type(found.field(column.name).type, column.type):
            found_type = found.field(column.name).type
            return f"its column {column.name} is {found_type}, the table says {column.type}"
    unknown = [name for name in found.names if name not in files.schema.names]
    return f"has the column {unknown[0]}, which the table lacks" if unknown else None


def _same_type(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether both hold the same values; the width of offsets and an element's name may vary."""
    if pa.types.is_list(expected):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return bool(is_list and found.value_type == expected.value_type)
    if pa.types.is_string(expected):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    return bool(found == expected)


def _visit_rows(parquet: pq.ParquetFile, file: LoggedFile, visit: BatchVisitor) -> str | None:
    num_rows = 0
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
        visit(batch, num_rows)
        num_rows += batch.num_rows
    if file.num_rows is not None and num_rows != file.num_rows:
        return f"holds {num_rows:,} rows, the log says {file.num_rows:,}"
    return None
