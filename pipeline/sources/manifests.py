"""Videos that a table names: `ManifestConfig` says what a manifest is."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.schema import check_attribute_names
from pipeline.errors import DatasetError, SourceError
from pipeline.sources.access import AllowedRoots, folder_of
from pipeline.sources.batches import LISTING_SCHEMA
from pipeline.sources.config import ManifestConfig
from pipeline.sources.files import list_files
from pipeline.sources.lookup import in_threads, look_up
from pipeline.sources.manifest_rows import MANIFEST_EXTENSIONS, Rows, read_rows
from pipeline.storage import StorageConfig, canonical_uri, is_local, local_path
from sweettok.uri_secrets import secret_in_uri

# A path that is its own URI: no letter to encode, no part that begins with a dot.
_PLAIN_PATH = re.compile(r"/?(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)*[A-Za-z0-9_~-][A-Za-z0-9_.~-]*")
_DEFAULT_COLUMNS = {"size": "size_bytes", "etag": "etag", "mtime": "mtime"}


def list_manifest(
    config: ManifestConfig,
    storage: StorageConfig,
    *,
    num_threads: int,
    allowed_roots: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Streams the videos of a manifest, in the order of its rows.

    Several files are read in the order of their URIs. A row whose video cannot be found is listed
    all the same: it will be a quarantine row.

    Args:
        config: The manifest.
        storage: How remote file systems are reached.
        num_threads: Questions to the store at one time.
        allowed_roots: Where rows may point beside the manifest's folder (see `AllowedRoots`).

    Raises:
        SourceError: A file cannot be read, has no row, lacks a column, has one that cannot be
            carried, or a row without a URI or with one that it may not name; the message names
            the row and the remedy.
    """
    for file in list_files([config.uri], MANIFEST_EXTENSIONS, storage):
        allowed = AllowedRoots([folder_of(file.uri), *allowed_roots])
        manifest = _Manifest(file.uri, config, storage, num_threads, allowed)
        rows_of_file = read_rows(
            file.uri, config.format, storage,
            text_column=config.uri_column, wanted=_wanted(config),
        )  # fmt: skip
        for rows in rows_of_file:
            yield manifest.batch(rows)
        manifest.check_complete()


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column of a manifest is which."""

    uri: str
    size: str | None
    etag: str | None
    mtime: str | None
    attributes: list[str]


class _Manifest:
    """One manifest file on its way to listing batches."""

    def __init__(
        self,
        uri: str,
        config: ManifestConfig,
        storage: StorageConfig,
        num_threads: int,
        allowed: AllowedRoots,
    ) -> None:
        self._uri = uri
        self._config = config
        self._storage = storage
        self._num_threads = num_threads
        self._allowed = allowed
        self._folder = _Folder(uri)
        self._names: dict[str, None] = {}
        self._num_rows = 0

    def batch(self, rows: Rows) -> pa.RecordBatch:
        """The listing of some rows."""
        if not self._names.keys() >= set(rows.names):
            self._names |= dict.fromkeys(rows.names)
            self._check_attributes()
        self._num_rows += len(rows.numbers)
        columns = self._columns()
        if columns.uri not in self._names:
            raise self._lacks("uri_column", columns.uri)
        uris = self._uris(rows, columns.uri)
        sizes = self._sizes(rows, columns.size)
        versions = self._versions(rows, columns, uris)
        sizes, versions = self._looked_up(uris, sizes, versions)
        attributes = _attribute_maps(rows, columns.attributes)
        absent = [pa.nulls(len(uris), kind) for kind in LISTING_SCHEMA.types[4:]]
        return pa.RecordBatch.from_arrays(
            [uris, sizes, versions, attributes, *absent], schema=LISTING_SCHEMA
        )

    def check_complete(self) -> None:
        """Refuses a manifest that had no row, or never a column that was asked for."""
        if not self._num_rows:
            raise SourceError(f"{self._uri}: holds no row; give another manifest")
        asked = {
            "size_column": self._config.size_column,
            "etag_column": self._config.etag_column,
            "mtime_column": self._config.mtime_column,
            **{f"attributes[{i}]": name for i, name in enumerate(self._config.attributes or ())},
        }
        for setting, name in asked.items():
            if name is not None and name not in self._names:
                raise self._lacks(setting, name)

    def _columns(self) -> _Columns:
        config = self._config
        known = {
            "size": config.size_column, "etag": config.etag_column, "mtime": config.mtime_column
        }  # fmt: skip
        for fact, default in _DEFAULT_COLUMNS.items():
            if known[fact] is None and default in self._names:
                known[fact] = default
        own = {config.uri_column, *known.values()}
        wanted = config.attributes
        attributes = [name for name in self._names if name not in own] if wanted is None else wanted
        return _Columns(config.uri_column, **known, attributes=list(attributes))

    def _check_attributes(self) -> None:
        try:
            check_attribute_names(self._columns().attributes)
        except DatasetError as error:
            raise SourceError(
                f"{self._uri}: {error}, or name the wanted columns in the manifest's attributes"
            ) from None

    def _lacks(self, setting: str, name: str) -> SourceError:
        return SourceError(
            f"{self._uri}: no column {name!r}, it has {', '.join(self._names) or 'none'}; "
            f"correct {setting} of the manifest"
        )

    def _uris(self, rows: Rows, name: str) -> pa.Array:
        uris = []
        for index, text in enumerate(_column(rows, name).to_pylist()):
            if not text or not text.strip():
                raise SourceError(
                    f"{self._uri}: {rows.where(index)} has no {name!r}; name a video there or "
                    "remove the row"
                )
            if secret := secret_in_uri(text):
                raise SourceError(
                    f"{self._uri}: the {name!r} of {rows.where(index)} carries {secret}, which the "
                    "dataset would keep; name the video without it and give credentials through "
                    "the environment"
                )
            uri = self._folder.absolute(text)
            if not self._allowed.allow(uri):
                raise SourceError(
                    f"{self._uri}: the {name!r} of {rows.where(index)} is {text[:200]!r}, which "
                    "lies neither in the manifest's folder nor below source.uris; if whoever "
                    "writes the manifest may name it, add its root to source.allowed_roots"
                )
            uris.append(uri)
        return pa.array(uris, pa.string())

    def _sizes(self, rows: Rows, name: str | None) -> pa.Array:
        texts = _column(rows, name)
        try:
            return pc.cast(texts, pa.int64())
        except pa.ArrowInvalid:
            index = next(i for i, text in enumerate(texts.to_pylist()) if not _is_integer(text))
            raise SourceError(
                f"{self._uri}: {rows.where(index)} has {texts[index].as_py()!r} for {name!r}, no "
                "number of bytes; correct it, or set size_column of the manifest"
            ) from None

    def _versions(self, rows: Rows, columns: _Columns, uris: pa.Array) -> pa.Array:
        etags = _column(rows, columns.etag)
        # S3 itself writes an etag in quotes, most tables without.
        bare = pc.replace_substring(etags, '"', "")
        quoted = pc.binary_join_element_wise('"', bare, '"', "")
        on_s3 = pc.match_substring_regex(uris, "^s3a?://")
        etags = pc.if_else(on_s3, quoted, etags)
        return pc.coalesce(etags, _column(rows, columns.mtime))

    def _looked_up(
        self, uris: pa.Array, sizes: pa.Array, versions: pa.Array
    ) -> tuple[pa.Array, pa.Array]:
        """Sizes and versions without gaps: the store's where the manifest is not to be trusted."""
        ask = pc.or_(pc.is_null(sizes), pc.is_null(versions)).to_numpy(zero_copy_only=False)
        if self._config.look_up != "missing":
            ask[:] = self._config.look_up == "always"
        sizes, versions = pc.fill_null(sizes, 0), pc.fill_null(versions, "")
        if not ask.any():
            return sizes, versions
        wanted = uris.filter(pa.array(ask)).to_pylist()
        found = list(in_threads(partial(look_up, storage=self._storage), wanted, self._num_threads))
        mask = pa.array(ask)
        return (
            pc.replace_with_mask(
                sizes, mask, pa.array([it.size_bytes for it in found], pa.int64())
            ),
            pc.replace_with_mask(versions, mask, pa.array([it.version for it in found])),
        )


class _Folder:
    """The folder of a manifest, which relative paths begin at."""

    def __init__(self, manifest_uri: str) -> None:
        self._is_local = is_local(manifest_uri)
        self._uri = manifest_uri.rpartition("/")[0]
        self._path = os.path.dirname(local_path(manifest_uri)) if self._is_local else ""

    def absolute(self, text: str) -> str:
        """The canonical URI of what a row says."""
        if "://" in text:
            return canonical_uri(text)
        if text.startswith(("/", "~")) or self._is_local:
            if text[0] != "~" and _PLAIN_PATH.fullmatch(text):
                return f"file://{text}" if text[0] == "/" else f"{self._uri}/{text}"
            return canonical_uri(os.path.join(self._path, os.path.expanduser(text)))
        protocol, _, path = f"{self._uri}/{text}".partition("://")
        return f"{protocol}://{posixpath.normpath(path)}"


def _wanted(config: ManifestConfig) -> set[str] | None:
    if config.attributes is None:
        return None
    facts = (config.size_column, config.etag_column, config.mtime_column)
    own = (name or default for name, default in zip(facts, _DEFAULT_COLUMNS.values(), strict=True))
    return {config.uri_column, *own, *config.attributes}


def _attribute_maps(rows: Rows, names: list[str]) -> pa.Array:
    """The attributes of each row as one map, without those that it lacks."""
    columns = [rows.columns[name] for name in names if name in rows.columns]
    present = [name for name in names if name in rows.columns]
    num_rows = len(rows.numbers)
    if not columns:
        empty = pa.array([], pa.string())
        return pa.MapArray.from_arrays(np.zeros(num_rows + 1, np.int32), empty, empty)
    is_there = np.stack([column.is_valid().to_numpy(zero_copy_only=False) for column in columns], 1)
    row, column_index = np.nonzero(is_there)
    offsets = np.concatenate([[0], np.cumsum(is_there.sum(axis=1))]).astype(np.int32)
    keys = pa.array(present, pa.string()).take(pa.array(column_index))
    items = pa.concat_arrays(columns).take(pa.array(column_index * num_rows + row))
    return pa.MapArray.from_arrays(pa.array(offsets), keys, items)


def _column(rows: Rows, name: str | None) -> pa.Array:
    if name is None or name not in rows.columns:
        return pa.nulls(len(rows.numbers), pa.string())
    return rows.columns[name]


def _is_integer(text: str | None) -> bool:
    if text is None:
        return True
    try:
        return -(2**63) <= int(text) < 2**63
    except ValueError:
        return False
