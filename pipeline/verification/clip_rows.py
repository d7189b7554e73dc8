"""Every clip row on its own: what can be computed again must give the same.

Each check takes a batch of rows and says which of them are wrong; everything that can be is done
on whole columns. Only the ids cost something per row (two SHA-256 of a few hundred bytes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Shaped

from pipeline.dataset.lineage import Lineage
from pipeline.dataset.schema import OPTIONAL_COLUMNS, TOKEN_SCHEMA
from pipeline.records import clip_id_of, stable_id

ID_PATTERN = "^[0-9a-f]{32}$"
_ID_COLUMNS = ("clip_id", "video_id", "video_fingerprint")


@dataclass(frozen=True, slots=True)
class RowFault:
    """Rows of one batch with the same fault.

    Attributes:
        wrong: Which rows of the batch, [num_rows].
        describe: What is wrong with row i of the batch.
        is_malformed: Whether such a row cannot be looked at any further.
    """

    wrong: Bool[np.ndarray, " num_rows"]
    describe: Callable[[int], str]
    is_malformed: bool = False


def row_faults(rows: pa.RecordBatch, lineage: Lineage) -> Iterator[RowFault]:
    """The faults of a batch of clip rows, only those that occur.

    Malformed rows (a null, no id, too few tokens) are left out of the later checks.
    """
    malformed = np.zeros(rows.num_rows, bool)
    for fault in _form_faults(rows, lineage):
        malformed |= fault.wrong
        yield RowFault(fault.wrong, fault.describe, is_malformed=True)
    whole = np.flatnonzero(~malformed)
    batch = rows.take(pa.array(whole)) if malformed.any() else rows
    for fault in _value_faults(batch, lineage):
        if fault.wrong.any():
            wrong = np.zeros(rows.num_rows, bool)
            wrong[whole[fault.wrong]] = True
            places = np.full(rows.num_rows, -1)
            places[whole] = np.arange(len(whole))
            yield RowFault(wrong, partial(_described_in, fault, places))


def _described_in(fault: RowFault, places: np.ndarray, row: int) -> str:
    return fault.describe(int(places[row]))


def _form_faults(rows: pa.RecordBatch, lineage: Lineage) -> Iterator[RowFault]:
    for name in TOKEN_SCHEMA.names:
        if name not in OPTIONAL_COLUMNS and rows.column(name).null_count:
            yield RowFault(_mask(pc.is_null(rows.column(name))), partial(_null, name))
    for name in _ID_COLUMNS:
        column = rows.column(name)
        wrong = ~_mask(pc.fill_null(pc.match_substring_regex(column, ID_PATTERN), True))
        if wrong.any():
            yield RowFault(wrong, partial(_no_id, name, column))
    for name, expected in _list_lengths(lineage).items():
        lengths = rows.column(name).value_lengths()
        wrong = _mask(pc.fill_null(pc.not_equal(lengths, expected), False))
        if wrong.any():
            yield RowFault(wrong, partial(_wrong_length, name, lengths, expected))


def _null(name: str, _row: int) -> str:
    return f"{name} is null"


def _no_id(name: str, column: pa.Array, row: int) -> str:
    return f"{name} is {column[row].as_py()!r}, not 32 hexadecimal digits"


def _wrong_length(name: str, lengths: pa.Array, expected: int, row: int) -> str:
    return f"{lengths[row]} {name}, the lineage asks for {expected}"


def _value_faults(rows: pa.RecordBatch, lineage: Lineage) -> Iterator[RowFault]:
    yield _video_ids(rows)
    yield _clip_ids(rows)
    yield _range_of(rows, "spatial_tokens", lineage.num_spatial_tokens, lineage.num_spatial_words)
    yield _range_of(
        rows, "temporal_tokens", lineage.num_temporal_tokens, lineage.num_temporal_words
    )
    yield from _sizes(rows, lineage)
    yield _frames(rows, lineage.geometry.num_frames)
    yield _times(rows)
    if "psnr_db" in rows.schema.names:
        wrong = _mask(pc.fill_null(pc.is_nan(rows.column("psnr_db")), False))
        yield RowFault(wrong, lambda _: "psnr_db is not a number")


def _video_ids(rows: pa.RecordBatch) -> RowFault:
    uris = rows.column("video_uri").to_pylist()
    expected = {uri: stable_id("video", uri) for uri in set(uris)}
    found = rows.column("video_id").to_pylist()
    wrong = np.array([expected[uri] != id_ for uri, id_ in zip(uris, found, strict=True)], bool)
    return RowFault(
        wrong,
        lambda row: f"video_id is {found[row]}, that of {uris[row]} is {expected[uris[row]]}",
    )


def _clip_ids(rows: pa.RecordBatch) -> RowFault:
    names = ("video_id", "video_fingerprint", "clip_index")
    parts = zip(*(rows.column(name).to_pylist() for name in names), _lists(rows), strict=True)
    expected = [clip_id_of(*part) for part in parts]
    found = rows.column("clip_id").to_pylist()
    wrong = np.array([a != b for a, b in zip(found, expected, strict=True)], bool)
    return RowFault(
        wrong,
        lambda row: (
            f"clip_id is {found[row]}; its video, fingerprint, index and frames give "
            f"{expected[row]}: one of these columns was altered"
        ),
    )


def _lists(rows: pa.RecordBatch) -> Iterator[list[int]]:
    """The frame indices of each row; much faster than Arrow's own way to Python lists."""
    column = rows.column("frame_indices")
    offsets = column.offsets.to_pylist()
    values = column.values.to_numpy().tolist()
    return (values[start:end] for start, end in pairwise(offsets))


def _range_of(rows: pa.RecordBatch, name: str, count: int, num_words: int) -> RowFault:
    ids = _matrix(rows, name, count)
    wrong = np.any((ids < 0) | (ids >= num_words), axis=1)

    def describe(row: int) -> str:
        outside = ids[row][(ids[row] < 0) | (ids[row] >= num_words)]
        return f"{name} holds the id {outside[0]}, the codebook's are 0 to {num_words - 1}"

    return RowFault(wrong, describe)


def _sizes(rows: pa.RecordBatch, lineage: Lineage) -> Iterator[RowFault]:
    for name in ("num_frames", "height_px", "width_px"):
        found, expected = rows.column(name).to_numpy(), getattr(lineage.geometry, name)
        yield RowFault(found != expected, partial(_wrong_size, name, found, expected))


def _wrong_size(name: str, found: np.ndarray, expected: int, row: int) -> str:
    return f"{name} is {found[row]}, the lineage says {expected}"


def _frames(rows: pa.RecordBatch, num_frames: int) -> RowFault:
    indices = _matrix(rows, "frame_indices", num_frames).astype(np.int64)
    padded = rows.column("num_padded_frames").to_numpy()
    places = np.arange(num_frames)
    is_padding = places >= num_frames - padded[:, None]
    repeats = np.diff(indices, axis=1, prepend=indices[:, :1] - 1) == 0
    wrong = (padded < 0) | (padded >= num_frames) | (indices < 0).any(axis=1)
    wrong |= (np.diff(indices, axis=1) < 0).any(axis=1) | (is_padding & ~repeats).any(axis=1)
    return RowFault(
        wrong,
        lambda row: (
            f"frame_indices {indices[row].tolist()} with {padded[row]} padded frames: they must "
            "not decrease, and padding repeats the last real frame"
        ),
    )


def _times(rows: pa.RecordBatch) -> RowFault:
    starts, ends = rows.column("start_s").to_numpy(), rows.column("end_s").to_numpy()
    index = rows.column("clip_index").to_numpy()
    wrong = ~((starts >= 0) & (starts <= ends) & np.isfinite(ends)) | (index < 0)
    return RowFault(
        wrong,
        lambda row: f"clip {index[row]} from {starts[row]} s to {ends[row]} s is no part of time",
    )


def _matrix(
    rows: pa.RecordBatch, name: str, count: int
) -> Shaped[np.ndarray, "num_rows num_values"]:
    return rows.column(name).flatten().to_numpy().reshape(rows.num_rows, count)


def _list_lengths(lineage: Lineage) -> dict[str, int]:
    return {
        "frame_indices": lineage.geometry.num_frames,
        "spatial_tokens": lineage.num_spatial_tokens,
        "temporal_tokens": lineage.num_temporal_tokens,
    }


def _mask(values: pa.Array) -> Bool[np.ndarray, " num_rows"]:
    return values.to_numpy(zero_copy_only=False).astype(bool)
