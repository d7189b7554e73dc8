"""The columns of the two tables, and the rules for columns that users bring.

Every column is nullable in the Delta sense, because a later append may add user columns that
older rows lack; of our own columns only the optional ones are ever null.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa

from pipeline.errors import DatasetError

_TOKEN_LIST = pa.list_(pa.field("element", pa.int16()))

TOKEN_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("video_id", pa.string()),
        ("video_uri", pa.string()),
        ("video_fingerprint", pa.string()),
        ("clip_index", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("frame_indices", pa.list_(pa.field("element", pa.int32()))),
        ("num_padded_frames", pa.int32()),
        ("num_frames", pa.int32()),
        ("height_px", pa.int32()),
        ("width_px", pa.int32()),
        ("source_width_px", pa.int32()),
        ("source_height_px", pa.int32()),
        ("source_fps", pa.float64()),
        ("source_codec", pa.string()),
        ("decoder", pa.string()),
        ("spatial_tokens", _TOKEN_LIST),
        ("temporal_tokens", _TOKEN_LIST),
        ("psnr_db", pa.float32()),
        ("run_id", pa.string()),
    ]
)
"""Columns of the clip table, in order; the user's own string columns follow."""

OPTIONAL_COLUMNS = ("psnr_db",)
"""Ours that may be null, and that tables of earlier versions lack until something is appended."""

QUARANTINE_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("video_uri", pa.string()),
        ("video_fingerprint", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("error_class", pa.string()),
        ("message", pa.string()),
        ("attempts", pa.int32()),
        ("quarantined_at", pa.timestamp("us", tz="UTC")),
        ("run_id", pa.string()),
    ]
)
"""Columns of the quarantine table: one row per input that gave no clip."""

_FORBIDDEN_CHARACTERS = " ,;{}()\n\t="


def attribute_names(schema: pa.Schema) -> list[str]:
    """Names of the user's columns in a clip table's `schema`, in order."""
    return [name for name in schema.names if name not in TOKEN_SCHEMA.names]


def lacking_columns(schema: pa.Schema) -> list[pa.Field]:
    """Columns of ours that a clip table of an earlier version lacks.

    Raises:
        DatasetError: A column of the user has the name of one of ours, or one that cannot be
            added later is missing.
    """
    lacking = []
    for ours in TOKEN_SCHEMA:
        if ours.name in schema.names:
            found = schema.field(ours.name).type
            if ours.name in OPTIONAL_COLUMNS and found != ours.type:
                raise DatasetError(
                    f"the table has a column {ours.name!r} of type {found}, ours of that name is "
                    f"{ours.type}: write to another dataset, with the user's column renamed"
                )
        elif ours.name in OPTIONAL_COLUMNS:
            lacking.append(ours)
        else:
            raise DatasetError(f"the table lacks the column {ours.name!r}; restore it")
    return lacking


def with_attributes(names: Iterable[str]) -> pa.Schema:
    """The clip table's schema with the user's columns `names` after ours.

    Raises:
        DatasetError: A name cannot be a column; see `check_attribute_names`.
    """
    names = list(names)
    check_attribute_names(names)
    schema = TOKEN_SCHEMA
    for name in names:
        schema = schema.append(pa.field(name, pa.string()))
    return schema


def check_attribute_names(names: Collection[str]) -> None:
    """Refuses user columns that no Delta reader could tell from others or could not read.

    Raises:
        DatasetError: A name is empty, is one of ours, equals another up to case, or has a
            character that Parquet readers of Delta tables refuse.
    """
    taken = {name.lower(): name for name in TOKEN_SCHEMA.names}
    for name in names:
        if not name or any(character in _FORBIDDEN_CHARACTERS for character in name):
            raise DatasetError(
                f"attribute {name!r} cannot be a column: rename it to a non-empty name without "
                "spaces, line breaks and , ; { } ( ) ="
            )
        clash = taken.setdefault(name.lower(), name)
        if clash != name or name in TOKEN_SCHEMA.names:
            kind = "a column of the dataset" if clash in TOKEN_SCHEMA.names else "another attribute"
            raise DatasetError(
                f"attribute {name!r} clashes with {clash!r}, {kind} (case is ignored): rename it"
            )
