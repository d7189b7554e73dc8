"""How the two tables of a dataset come into being, on their own or as successors of others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

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


def create_tables(
    uri: str,
    lineage: Lineage,
    config_yaml: str,
    options: Mapping[str, str],
    new_version_of: str | None,
) -> None:
    """Creates the tables that are not there yet.

    Raises:
        DatasetError: The root holds something else, or the dataset to be continued is not there or
            is no other one.
    """
    _check_local_root(uri)
    # The quarantine comes first: whoever can open the dataset finds both tables.
    VideoTable.create(_quarantine_uri(uri), QUARANTINE_SCHEMA, {}, options)
    properties = {FINGERPRINT: lineage.fingerprint, LINEAGE: lineage.to_json(), CONFIG: config_yaml}
    if new_version_of is not None:
        if VideoTable.exists(uri, options):
            _check_continues(uri, options, new_version_of)
            return
        older = _predecessor(uri, lineage, options, new_version_of)
        _inherit_takedowns(older.uri, uri, options)
        properties[PREDECESSOR] = older.to_json()
    VideoTable.create(uri, TOKEN_SCHEMA, properties, options)


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
        return
    if not root.is_dir():
        raise DatasetError(f"{uri}: is a file, a dataset needs a folder")
    strange = sorted(path.name for path in root.iterdir() if not path.name.startswith("_"))
    if strange and not (root / "_delta_log").is_dir():
        raise DatasetError(
            f"{uri}: holds other files ({strange[0]} …) and no token dataset; choose an empty "
            "folder or one that does not exist"
        )
