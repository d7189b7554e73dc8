"""The rows of a manifest as Arrow columns of text, whatever format they are written in."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeVar
from urllib.parse import urlparse

import fsspec.compression
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.utils import infer_compression

from pipeline.errors import RecordError, SourceError, TransientError
from pipeline.sources.batches import ROWS_PER_BATCH
from pipeline.sources.table_formats import COMPRESSIONS, TABLE_FORMATS, format_suffix
from pipeline.sources.texts import attribute_text
from pipeline.storage import StorageConfig, open_input

_RowT = TypeVar("_RowT")
_READ_ERRORS = (
    RecordError, TransientError, ValueError, EOFError, zlib.error, pa.ArrowException
)  # fmt: skip
_MAX_LINE_CHARACTERS = 2**22
_MAX_CHUNK_CHARACTERS = 2**26
MANIFEST_EXTENSIONS = (
    *TABLE_FORMATS,
    *(suffix + end for suffix in TABLE_FORMATS if suffix != ".parquet" for end in COMPRESSIONS),
)
"""Suffixes that a folder of manifests is searched for."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a manifest.

    Attributes:
        names: All columns of the table, so far as it is known.
        columns: The wanted ones as texts, all of one length; null where a row says nothing.
        numbers: Of each row its line in a text file, or its position (from 1) in a Parquet file.
        unit: "line" or "row": what `numbers` counts.
    """

    names: Sequence[str]
    columns: dict[str, pa.Array]
    numbers: Sequence[int]
    unit: str

    def where(self, index: int) -> str:
        """The place of a row, for a message."""
        return f"{self.unit} {self.numbers[index]}"


def read_rows(
    uri: str,
    kind: str | None,
    storage: StorageConfig,
    *,
    text_column: str,
    wanted: Collection[str] | None = None,
) -> Iterator[Rows]:
    """Streams a manifest, a few thousand rows at a time.

    Args:
        uri: The file.
        kind: "parquet", "csv", "tsv" or "jsonl"; None means what its suffix says.
        storage: How remote file systems are reached.
        text_column: Column that must hold texts: a number in it is no URI.
        wanted: Columns to read, where there are such; None reads all.

    Raises:
        SourceError: The file cannot be read, or not as such a table; the message names the row.
    """
    kind = kind or _format_of(uri)
    try:
        with open_input(uri, storage) as file:
            if kind == "parquet":
                yield from _parquet_rows(uri, file, text_column, wanted)
                return
            with _text(uri, file) as text:
                lines = _bounded_lines(uri, text)
                if kind == "jsonl":
                    yield from _json_rows(uri, lines, text_column)
                else:
                    yield from _csv_rows(uri, lines, "\t" if kind == "tsv" else ",")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{uri}: is not UTF-8 ({error.reason}); convert it, as `iconv -f LATIN1 -t UTF-8 OLD "
            "> NEW` does"
        ) from error
    except _READ_ERRORS as error:
        raise SourceError(
            f"{uri}: cannot be read as {kind}: {' '.join(str(error).split())}"
        ) from error


def _format_of(uri: str) -> str:
    suffix = format_suffix(uri)
    if suffix not in TABLE_FORMATS:
        raise SourceError(
            f"{uri}: unknown kind of manifest {suffix!r}, known are {', '.join(TABLE_FORMATS)}; "
            "set the manifest's format"
        )
    return TABLE_FORMATS[suffix]


@contextmanager
def _text(uri: str, file: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    compression = infer_compression(urlparse(uri).path)
    opened = fsspec.compression.compr[compression](file, mode="rb") if compression else file
    # A local file's own buffer is detached on the way out, for its owner to close it.
    lines = io.TextIOWrapper(opened, encoding="utf-8-sig", newline="")
    try:
        yield lines
    finally:
        lines.detach()


def _bounded_lines(uri: str, text: io.TextIOWrapper) -> Iterator[str]:
    """The lines; a compressed file of a few kB may hold one that fills the memory."""
    number = 0
    while line := text.readline(_MAX_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > _MAX_LINE_CHARACTERS:
            raise SourceError(
                f"{uri}: line {number} has more than {_MAX_LINE_CHARACTERS} characters; mend it (a "
                "line break missing?) or leave the row out"
            )
        yield line


def _chunks(rows: Iterable[_RowT], num_characters: Callable[[_RowT], int]) -> Iterator[list[_RowT]]:
    """Some thousand rows at a time, fewer if they are long."""
    chunk: list[_RowT] = []
    total = 0
    for row in rows:
        chunk.append(row)
        total += num_characters(row)
        if len(chunk) == ROWS_PER_BATCH or total > _MAX_CHUNK_CHARACTERS:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


def _parquet_rows(
    uri: str, file: IO[bytes], text_column: str, wanted: Collection[str] | None
) -> Iterator[Rows]:
    table = pq.ParquetFile(file)
    names = table.schema_arrow.names
    _check_distinct(uri, names)
    if text_column in names:
        _check_text_kind(uri, table.schema_arrow.field(text_column))
    read = [name for name in names if wanted is None or name in wanted]
    start = 1
    for batch in table.iter_batches(batch_size=ROWS_PER_BATCH, columns=read):
        columns = {name: _texts(uri, name, batch[name]) for name in batch.schema.names}
        yield Rows(names, columns, range(start, start + batch.num_rows), "row")
        start += batch.num_rows


def _texts(uri: str, name: str, values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _texts(uri, name, values.dictionary_decode())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise SourceError(
            f"{uri}: column {name!r} holds bytes, a dataset's columns hold texts; "
            "leave it out, or name the wanted ones in the manifest's attributes"
        )
    if pa.types.is_nested(kind) or pa.types.is_boolean(kind):
        return pa.array(map(attribute_text, values.to_pylist()), pa.string())
    texts = pc.cast(values, pa.string())
    # Tables from pandas say NaN where a number is missing.
    is_float = pa.types.is_floating(kind)
    return pc.if_else(pc.equal(texts, "nan"), None, texts) if is_float else texts


def _check_text_kind(uri: str, column: pa.Field) -> None:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text_kinds = (pa.string(), pa.large_string(), pa.string_view(), pa.null())
    if kind not in text_kinds:
        raise SourceError(
            f"{uri}: column {column.name!r} holds {kind} from row 1 on, no texts; name the column "
            "with the videos' URIs as uri_column of the manifest"
        )


def _csv_rows(uri: str, lines: Iterable[str], delimiter: str) -> Iterator[Rows]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        _check_distinct(uri, names)
        numbered = ((reader.line_num, row) for row in reader if row)
        for chunk in _chunks(numbered, lambda item: sum(map(len, item[1]))):
            for number, row in chunk:
                if len(row) != len(names):
                    raise SourceError(
                        f"{uri}: line {number} has {len(row)} cells, the header names "
                        f"{len(names)}; mend the row (a quote or delimiter missing?)"
                    )
            cells = zip(*(row for _, row in chunk), strict=True)
            columns = {
                name: pa.array([cell or None for cell in column], pa.string())
                for name, column in zip(names, cells, strict=True)
            }
            yield Rows(names, columns, [number for number, _ in chunk], "line")
    except csv.Error as error:
        raise SourceError(
            f"{uri}: the row at line {reader.line_num} cannot be read ({error}); mend it (a quote "
            "left open?), or set the manifest's format"
        ) from error


def _json_rows(uri: str, lines: Iterable[str], text_column: str) -> Iterator[Rows]:
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    for chunk in _chunks(numbered, lambda item: len(item[1])):
        rows = [_json_object(f"{uri}: line {number}", line) for number, line in chunk]
        for (number, _), row in zip(chunk, rows, strict=True):
            if not isinstance(value := row.get(text_column), str | None):
                raise SourceError(
                    f"{uri}: line {number} has {json.dumps(value)[:40]} for {text_column!r}, which "
                    "must be a text; name a video there or remove the row"
                )
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {
            name: pa.array([attribute_text(row.get(name)) for row in rows], pa.string())
            for name in names
        }
        yield Rows(list(names), columns, [number for number, _ in chunk], "line")


def _json_object(where: str, line: str) -> dict[str, Any]:
    remedy = "every line must be one JSON object; mend or remove it"
    try:
        row = json.loads(line, object_pairs_hook=_distinct_pairs)
    except _RepeatedNameError as error:
        raise SourceError(f"{where} has {error.args[0]!r} twice; rename or remove one") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{where} is not JSON ({' '.join(str(error).split())}): {remedy}"
        ) from error
    if not isinstance(row, dict):
        raise SourceError(f"{where} holds {line[:40].strip()!r}: {remedy}")
    return row


class _RepeatedNameError(ValueError):
    """An object of JSON has the same key twice."""


def _distinct_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedNameError(next(name for name in names if names.count(name) > 1))
    return values


def _check_distinct(uri: str, names: Sequence[str]) -> None:
    repeated = next((name for name in names if list(names).count(name) > 1), None)
    if repeated is not None:
        raise SourceError(f"{uri}: column {repeated!r} is there twice; rename or remove one")
