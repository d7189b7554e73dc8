"""Tokenizer, source and dataset: are they there, and does the store tell two writers apart."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline.conditional_files import conditional_files
from pipeline.dataset import Lineage, TokenDataset
from pipeline.dataset.commits import CommitConflictError
from pipeline.dataset.schema import QUARANTINE_SCHEMA
from pipeline.dataset.storage_options import delta_storage_options
from pipeline.dataset.video_table import VideoTable
from pipeline.doctor.finding import Finding, ok
from pipeline.errors import DatasetError, RecordError, SourceError
from pipeline.sources import SourceConfig, list_videos
from pipeline.storage import StorageConfig, is_local, normalized_uri, open_filesystem, open_input
from pipeline.storage import archive_of as shard_of
from pipeline.tokenization import TokenizeConfig, build_lineage
from sweettok import SweetTokConfig
from sweettok.tokenizer_manifest import verified_manifest

_LEAST_FREE_BYTES = 10 * 2**30
_FOLDER = "_doctor"
_STORE = (
    "two runs at once would lose each other's commits: take a store that creates an object only if "
    "it is not there (If-None-Match), or let one run write at a time"
)


def look_at_tokenizer(config: TokenizeConfig) -> Iterator[Finding]:
    """The tokenizer's files against their hashes."""
    manifest = verified_manifest(config.tokenizer_directory)
    yield ok("tokenizer", f"{config.tokenizer}, fingerprint {manifest['fingerprint']}")


def look_at_source(source: SourceConfig) -> Iterator[Finding]:
    """The first video of the listing, and whether it can be read."""
    video = next(list_videos(source), None)
    if video is None:
        raise SourceError("the listing is empty")
    uri = shard_of(video.uri)[0] if video.member else video.uri
    try:
        with open_input(uri, source.storage) as file:
            file.read(1)
    except RecordError as error:
        detail = f"{uri} is listed, but {error}"
        yield Finding("source", "failed", detail, "give this user the right to read it")
        return
    yield ok("source", f"listed and read {video.uri}")


def look_at_dataset(config: TokenizeConfig) -> Iterator[Finding]:
    """Whether the dataset takes commits of this config, and its store two writers."""
    uri, storage = normalized_uri(config.dataset.uri), config.dataset.storage
    # A store that does not answer says so here at once; the Delta library asks for minutes.
    conditional_files(uri, storage).read(_FOLDER)
    if TokenDataset.exists(uri, storage=storage):
        dataset = TokenDataset.open(uri, storage=storage)
        yield ok("dataset", f"{uri}, version {dataset.version}, {dataset.num_clips():,} clips")
        dataset.check_lineage(_lineage(config))
    else:
        yield ok("dataset", f"{uri} does not exist yet")
    yield from _look_at_store(uri, storage)
    if is_local(uri):
        yield _free_space(Path(uri))


def _lineage(config: TokenizeConfig) -> Lineage:
    manifest = verified_manifest(config.tokenizer_directory)
    model = SweetTokConfig.from_mapping(manifest["config"], origin=config.tokenizer)
    return build_lineage(config, manifest, model)


def _look_at_store(uri: str, storage: StorageConfig) -> Iterator[Finding]:
    folder = f"{uri}/{_FOLDER}/{uuid.uuid4().hex}"
    kept = _existing_parent(Path(uri)) if is_local(uri) else None
    try:
        yield _creates_once(folder, storage)
        yield _commits_once(folder, storage)
    finally:
        _remove(uri, folder, storage, kept)


def _creates_once(folder: str, storage: StorageConfig) -> Finding:
    files = conditional_files(folder, storage)
    first, second = files.create("file", b"first"), files.create("file", b"second")
    found = files.read("file")
    if (first, second, found) == (True, False, b"first"):
        return ok("conditional write", "of two that create one file, the first has it")
    detail = f"of two that create one file, both were told {first} and {second}; it holds {found!r}"
    return Finding("conditional write", "failed", detail, _STORE)


def _commits_once(folder: str, storage: StorageConfig) -> Finding:
    table_uri, options = f"{folder}/table", delta_storage_options(storage)
    VideoTable.create(table_uri, QUARANTINE_SCHEMA, {}, options)
    first, second = VideoTable(table_uri, options), VideoTable(table_uri, options)
    first.swap([], [], {}, even_if_empty=True)
    try:
        second.swap([], [], {}, even_if_empty=True)
    except CommitConflictError:
        return ok("commits", "of two on one version, the second was refused")
    return Finding("commits", "failed", "of two on one version, both were accepted", _STORE)


def _existing_parent(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _remove(uri: str, folder: str, storage: StorageConfig, kept: Path | None) -> None:
    """Removes what was written, and the folders that were made for it."""
    try:
        if kept is None:
            filesystem, path = open_filesystem(folder, storage)
            if filesystem.exists(path):
                filesystem.rm(path, recursive=True)
            return
        shutil.rmtree(folder, ignore_errors=True)
        above = Path(uri) / _FOLDER
        while above != kept and above.is_dir() and not any(above.iterdir()):
            above.rmdir()
            above = above.parent
    except OSError as error:
        raise DatasetError(f"{folder} cannot be removed ({error}); remove it by hand") from error


def _free_space(path: Path) -> Finding:
    free = shutil.disk_usage(_existing_parent(path)).free
    if free < _LEAST_FREE_BYTES:
        detail = f"{free / 2**30:.1f} GiB free"
        return Finding("disk", "warning", detail, "make room: maintenance and large runs need it")
    return ok("disk", f"{free / 2**30:.1f} GiB free")
