"""Captions as a stream of texts: Parquet, CSV, TSV, JSON lines or plain text, local or remote.

Files are read in the order of their URIs and row by row; nothing is held in memory but one batch.
Text formats may be compressed (".gz", ".bz2", ".xz", ".zst").
"""

from __future__ import annotations

import csv
import glob
import io
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal

import fsspec
import pyarrow
import pyarrow.parquet
import pydantic

from pipeline.errors import RecordError, SourceError, TransientError
from pipeline.records import ListedVideo
from pipeline.sources import SourceConfig, list_videos
from pipeline.sources.table_formats import COMPRESSIONS, TABLE_FORMATS, format_suffix
from pipeline.storage import (
    StorageConfig,
    is_local,
    local_path,
    open_filesystem,
    typed_read_errors,
)
from sweettok.strict_config import StrictConfig

_ROWS_PER_BATCH = 4096
_FORMATS = {**TABLE_FORMATS, ".txt": "text", ".text": "text"}
_JQ = "a JSON array must become JSON lines first, as `jq -c '.[]' FILE > FILE.jsonl` makes them"


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
            says; or there is not one caption.
    """
    captions = itertools.chain.from_iterable(
        _read_file(file.uri, config) for file in list_caption_files(config)
    )
    stripped = (caption.strip() for caption in captions)
    num_captions = 0
    for caption in itertools.islice((text for text in stripped if text), config.max_captions):
        num_captions += 1
        yield caption
    if not num_captions:
        raise SourceError(
            f"0 captions read from {', '.join(config.uris)}: no row, or nothing but empty ones; "
            f"give other files or another column (it is {config.column!r})"
        )


def list_caption_files(config: CaptionsConfig) -> list[ListedVideo]:
    """The files of `config.uris` with their sizes and versions, sorted by URI, each once.

    Raises:
        SourceError: A root does not exist, cannot be listed, or holds no captions.
    """
    files = {file.uri: file for root in config.uris for file in _list_root(root, config)}
    return [files[uri] for uri in sorted(files)]


def _list_root(root: str, config: CaptionsConfig) -> list[ListedVideo]:
    compressed = (suffix + end for suffix in _FORMATS for end in COMPRESSIONS)
    source = SourceConfig(uris=(root,), extensions=(*_FORMATS, *compressed), storage=config.storage)
    try:
        return list(list_videos(source))
    except SourceError as error:
        # A cause means that listing failed; otherwise the root is not there or holds no captions.
        if error.__cause__ is not None or not _exists(root):
            raise
        raise SourceError(
            f"{root}: holds no captions (files ending in {', '.join(_FORMATS)}, compressed or "
            "not); check the path, or name the file itself and set format"
        ) from None


def _exists(root: str) -> bool:
    if not is_local(root):
        return True
    path = os.path.abspath(local_path(root))
    return os.path.lexists(path) or bool(glob.glob(path, recursive=True))


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
    except UnicodeDecodeError as error:
        if kind == "parquet":
            raise SourceError(
                f"{uri}: column {config.column!r} holds texts that are not UTF-8; write it again"
            ) from error
        raise _not_utf8(uri, config) from error
    except (RecordError, TransientError, ValueError, EOFError, csv.Error) as error:
        raise SourceError(
            f"{uri}: captions cannot be read as {kind}: {' '.join(str(error).split())}"
        ) from error


def _format_of(uri: str) -> str:
    suffix = format_suffix(uri)
    if suffix == ".json":
        raise SourceError(f"{uri}: if each line is one JSON object, set format to jsonl; {_JQ}")
    if suffix not in _FORMATS:
        raise SourceError(
            f"{uri}: unknown kind of captions {suffix!r}, known are {', '.join(_FORMATS)}; "
            f"set format to one of {', '.join(dict.fromkeys(_FORMATS.values()))}"
        )
    return _FORMATS[suffix]


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


def _not_utf8(uri: str, config: CaptionsConfig) -> SourceError:
    """Reads the file again as bytes to tell which line it is."""
    remedy = "convert the file, as `iconv -f LATIN1 -t UTF-8 OLD > NEW` does"
    with _opened(uri, config, is_text=True) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return SourceError(
                    f"{uri}: line {number} is not UTF-8 (byte 0x{byte:02x}); {remedy}"
                )
    return SourceError(f"{uri}: is not UTF-8; {remedy}")


def _table_captions(
    uri: str, lines: io.TextIOWrapper, column: str, delimiter: str
) -> Iterator[str]:
    rows = csv.DictReader(lines, delimiter=delimiter)
    _check_column(uri, column, rows.fieldnames or ())
    try:
        for row in rows:
            yield from _texts(f"{uri}: line {rows.line_num}", column, row[column])
    except csv.Error as error:
        raise SourceError(
            f"{uri}: the row after line {rows.line_num} cannot be read ({error}); mend it (a quote "
            "left open?), or set format"
        ) from error


def _json_captions(uri: str, lines: io.TextIOWrapper, column: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{uri}: line {number}"
            row = _json_object(where, line)
            _check_column(where, column, row)
            yield from _texts(where, column, row[column])


def _json_object(where: str, line: str) -> dict[str, Any]:
    remedy = "every line must be one JSON object"
    if line.lstrip().startswith("["):
        raise SourceError(f"{where} begins an array, but {remedy}; {_JQ}")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{where} is not JSON ({' '.join(str(error).split())}): {remedy}; mend or remove it"
        ) from error
    if not isinstance(row, dict):
        raise SourceError(f"{where}: {remedy}, found {line[:40].strip()!r}; mend or remove it")
    return row


def _texts(where: str, column: str, value: Any) -> Iterator[str]:
    values = value if isinstance(value, list) else [value]
    for text in values:
        if isinstance(text, str):
            yield text
        elif text is not None:
            raise SourceError(
                f"{where}: column {column!r} holds {type(text).__name__}, must hold texts; "
                "set column to the one that holds the captions"
            )


def _check_column(where: str, column: str, names: Any) -> None:
    if column not in names:
        raise SourceError(
            f"{where}: no column {column!r}, it has {', '.join(names) or 'none'}; "
            "set column to the one that holds the captions"
        )
