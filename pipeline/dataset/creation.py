"""How the two tables of a dataset come into being, on their own or as successors of others."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.commits import on_newest_state
from pipeline.dataset.lineage import Lineage, Predecessor
from pipeline.dataset.schema import QUARANTINE_SCHEMA, TOKEN_SCHEMA
from pipeline.dataset.video_table import VideoTable
from pipeline.errors import DatasetError, QuarantineReason
from pipeline.storage import is_local

logger = logging.getLogger(__name__)

FINGERPRINT, LINEAGE, CONFIG = "sweettok.fingerprint", "sweettok.lineage", "sweettok.config"
PREDECESSOR = "sweettok.predecessor"
_REMEDY = "choose a dataset.uri where this user may write, or allow it"


def open_clips(uri: str, options: Mapping[str, str], version: int | None = None) -> VideoTable:
    """The clip table of the dataset at `uri`.

    Raises:
        DatasetError: There is no table, no such version, or the table is not one of ours.
    """
    clips = VideoTable(uri, options, version)
    if LINEAGE not in clips.configuration:
        raise DatasetError(
            f"{uri}: is a Delta table, but no token dataset (it has no property {LINEAGE})"
        )
    return clips


def open_quarantine(uri: str, options: Mapping[str, str]) -> VideoTable:
    """The quarantine table of the dataset at `uri`, at its latest version."""
    return VideoTable(_quarantine_uri(uri), options, more_key_columns=["reason"])


def check_creatable(
    uri: str, lineage: Lineage, options: Mapping[str, str], new_version_of: str | None
) -> None:
    """Finds what `create_tables` would refuse where there is no dataset yet; makes nothing.

    Raises:
        DatasetError: As `create_tables`.
    """
    _check_local_root(uri)
    if new_version_of is not None:
        _predecessor(uri, lineage, options, new_version_of)


def create_tables(
    uri: str,
    lineage: Lineage,
    config_yaml: str,
    options: Mapping[str, str],
    new_version_of: str | None,
) -> None:
    """Creates the tables that are not there yet.

    Raises:
        DatasetError: The root holds something else or cannot be made, or the dataset to be
            continued is not there or is no other one.
    """
    _check_local_root(uri)
    properties = {FINGERPRINT: lineage.fingerprint, LINEAGE: lineage.to_json(), CONFIG: config_yaml}
    older = None
    if new_version_of is not None:
        if VideoTable.exists(uri, options):
            _check_continues(uri, options, new_version_of)
            return
        older = _predecessor(uri, lineage, options, new_version_of)
        properties[PREDECESSOR] = older.to_json()
    _make_local_root(uri)
    # The quarantine comes first: whoever can open the dataset finds both tables.
    _create(_quarantine_uri(uri), QUARANTINE_SCHEMA, {}, options)
    if older is not None:
        _inherit_takedowns(older.uri, uri, options)
    _create(uri, TOKEN_SCHEMA, properties, options)


def _create(
    uri: str, schema: pa.Schema, properties: Mapping[str, str], options: Mapping[str, str]
) -> None:
    try:
        VideoTable.create(uri, schema, properties, options)
    except DatasetError as error:
        raise DatasetError(f"{error}; the dataset cannot be created there: {_REMEDY}") from error


def _predecessor(
    uri: str, lineage: Lineage, options: Mapping[str, str], new_version_of: str
) -> Predecessor:
    if new_version_of == uri:
        raise DatasetError(
            f"{uri}: cannot be a new version of itself; give the new version a root of its own"
        )
    older = open_clips(new_version_of, options)
    fingerprint = older.configuration[FINGERPRINT]
    if fingerprint == lineage.fingerprint:
        raise DatasetError(
            f"{new_version_of}: holds tokens of this very lineage; append to it instead of making "
            "a new version of it"
        )
    return Predecessor(new_version_of, older.version, fingerprint)


def _check_continues(uri: str, options: Mapping[str, str], new_version_of: str) -> None:
    text = open_clips(uri, options).configuration.get(PREDECESSOR)
    found = None if text is None else Predecessor.from_json(text).uri
    if found != new_version_of:
        what = "a dataset of its own" if found is None else f"a new version of {found}"
        raise DatasetError(
            f"{uri}: is {what}, not a new version of {new_version_of}; choose a root where there "
            "is no dataset yet"
        )


def _inherit_takedowns(older_uri: str, uri: str, options: Mapping[str, str]) -> None:
    """What was taken down stays taken down in the dataset that continues it."""
    taken_down = pc.field("reason") == QuarantineReason.TAKEN_DOWN.value
    rows = open_quarantine(older_uri, options).arrow_dataset().to_table(filter=taken_down)
    if not rows.num_rows:
        return
    table = open_quarantine(uri, options)
    metadata = {"sweettok.reason": f"taken down in {older_uri}"}
    ids = rows["video_id"].combine_chunks()
    on_newest_state(table, lambda: table.swap(ids, [table.write(rows)], metadata))


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
        _check_can_be_made(root)
        return
    if not root.is_dir():
        raise DatasetError(f"{uri}: is a file, a dataset needs a folder")
    strange = sorted(path.name for path in root.iterdir() if not path.name.startswith("_"))
    if strange and not (root / "_delta_log").is_dir():
        raise DatasetError(
            f"{uri}: holds other files ({strange[0]} …) and no token dataset; choose an empty "
            "folder or one that does not exist"
        )


def _check_can_be_made(root: Path) -> None:
    """Looks whether a folder could be made, without making it; what it misses, making it finds."""
    above = next(folder for folder in root.parents if folder.exists())
    if not above.is_dir():
        raise _not_made(root, f"{above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise _not_made(root, f"this user may not write in {above}")


def _make_local_root(uri: str) -> None:
    if is_local(uri):
        try:
            Path(uri).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_made(Path(uri), error.strerror or str(error)) from error


def _not_made(root: Path, cause: str) -> DatasetError:
    return DatasetError(f"{root}: the dataset's folder cannot be made: {cause}; {_REMEDY}")
