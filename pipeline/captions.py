"""Captions as a stream of texts: Parquet, CSV, TSV, JSON lines or plain text, local or remote.

Files are read in the order of their URIs and row by row; nothing is held in memory but one batch.
Text formats may be compressed (".gz", ".bz2", ".xz", ".zst").
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any, Literal
from urllib.parse import urlparse

import fsspec
import pyarrow
import pyarrow.parquet
import pydantic

from pipeline.errors import RecordError, SourceError, TransientError
from pipeline.listing import SourceConfig, list_videos
from pipeline.storage import (
    StorageConfig,
    is_local,
    local_path,
    open_filesystem,
    typed_read_errors,
)
from sweettok.strict_config import StrictConfig

_ROWS_PER_BATCH = 4096
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".text": "text",
}


class CaptionsConfig(StrictConfig):
    """Where captions are and how they are written.

    Attributes:
        uris: Files, directories (read recursively) and glob patterns, local or remote.
        format: How the files are written; null means what each file's suffix says.
        column: The column or key that holds the caption, or a list of captions; plain text has
            one caption a line and no columns.
        max_captions: Read at most so many; null means all.
        storage: How remote file systems are reached.
    """

    uris: tuple[str, ...] = pydantic.Field(min_length=1)
    format: Literal["parquet", "csv", "tsv", "jsonl", "text"] | None = None
    column: str = "caption"
    max_captions: int | None = pydantic.Field(default=None, ge=1)
    storage: StorageConfig = StorageConfig()


def read_captions(config: CaptionsConfig) -> Iterator[str]:
    """Yields the captions, stripped, empty ones left out.

    Raises:
        SourceError: A file is missing, cannot be read, or is not what its format or the column
            says.
    """
    captions = itertools.chain.from_iterable(
        _read_file(file.uri, config) for file in list_videos(_files(config))
    )
    stripped = (caption.strip() for caption in captions)
    yield from itertools.islice((text for text in stripped if text), config.max_captions)


def _files(config: CaptionsConfig) -> SourceConfig:
    compressed = (suffix + end for suffix in _FORMATS for end in _COMPRESSIONS)
    return SourceConfig(
        uris=config.uris, extensions=(*_FORMATS, *compressed), storage=config.storage
    )


def _read_file(uri: str, config: CaptionsConfig) -> Iterator[str]:
    kind = config.format or _format_of(uri)
    try:
        with _opened(uri, config, is_text=kind != "parquet") as file:
            if kind == "parquet":
                yield from _parquet_captions(uri, file, config.column)
                return
            lines = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            if kind == "text":
                yield from lines
            elif kind == "jsonl":
                yield from _json_captions(uri, lines, config.column)
            else:
                yield from _table_captions(
                    uri, lines, config.column, "\t" if kind == "tsv" else ","
                )
    except (RecordError, TransientError, ValueError, EOFError, csv.Error) as error:
        raise SourceError(
            f"{uri}: captions cannot be read as {kind}: {' '.join(str(error).split())}"
        ) from error


def _format_of(uri: str) -> str:
    path = PurePosixPath(urlparse(uri).path)
    if path.suffix in _COMPRESSIONS:
        path = path.with_suffix("")
    if path.suffix.lower() not in _FORMATS:
        raise SourceError(
            f"{uri}: unknown kind of captions {path.suffix!r}, known are {', '.join(_FORMATS)}; "
            "set captions.format"
        )
    return _FORMATS[path.suffix.lower()]


@contextmanager
def _opened(uri: str, config: CaptionsConfig, *, is_text: bool) -> Iterator[IO[bytes]]:
    if is_local(uri):
        filesystem, path = fsspec.filesystem("file"), local_path(uri)
    else:
        filesystem, path = open_filesystem(uri, config.storage)
    compression = "infer" if is_text else None
    with typed_read_errors(uri), filesystem.open(path, "rb", compression=compression) as file:
        yield file


def _parquet_captions(uri: str, file: IO[bytes], column: str) -> Iterator[str]:
    table = pyarrow.parquet.ParquetFile(file)
    _check_column(uri, column, table.schema_arrow.names)
    for batch in table.iter_batches(batch_size=_ROWS_PER_BATCH, columns=[column]):
        for value in batch.column(0).to_pylist():
            yield from _texts(uri, column, value)


def _table_captions(
    uri: str, lines: io.TextIOWrapper, column: str, delimiter: str
) -> Iterator[str]:
    rows = csv.DictReader(lines, delimiter=delimiter)
    _check_column(uri, column, rows.fieldnames or ())
    for row in rows:
        yield from _texts(uri, column, row[column])


def _json_captions(uri: str, lines: io.TextIOWrapper, column: str) -> Iterator[str]:
    for line in lines:
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise SourceError(f"{uri}: every line must be one JSON object, found {line[:40]!r}")
            _check_column(uri, column, row)
            yield from _texts(uri, column, row[column])


def _texts(uri: str, column: str, value: Any) -> Iterator[str]:
    values = value if isinstance(value, list) else [value]
    for text in values:
        if isinstance(text, str):
            yield text
        elif text is not None:
            raise SourceError(
                f"{uri}: column {column!r} holds {type(text).__name__}, must hold texts; "
                "set captions.column"
            )


def _check_column(uri: str, column: str, names: Any) -> None:
    if column not in names:
        raise SourceError(
            f"{uri}: no column {column!r}, it has {', '.join(names) or 'none'}; set captions.column"
        )
