"""128-bit ids by the million: 16 bytes each, found by binary search, no Python object per id.

Ids are written as 32 hexadecimal digits in datasets and records. In memory many of them are either
*packed* (Arrow, 16 bytes each) or *keys* (NumPy, two 64-bit numbers each, the first the high one).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, UInt8, UInt64

PACKED_ID = pa.binary(16)
"""Arrow type of a packed id."""

Keys: TypeAlias = UInt64[np.ndarray, "keys half"]

_DIGITS = 32  # hexadecimal digits of an id
_BYTES = 16
_NIBBLES = np.full(256, 255, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)
_GROWTH = 1.125
_IDS_PER_CHUNK = 2**20  # Arrow's offsets into text have 31 bits


class SortedIds:
    """Distinct ids in the order of their keys, 16 bytes each.

    Args:
        high, low: The halves of the keys, sorted by high, then low; not copied.
    """

    def __init__(self, high: UInt64[np.ndarray, " ids"], low: UInt64[np.ndarray, " ids"]) -> None:
        self.high, self.low = high, low

    def __len__(self) -> int:
        return len(self.high)

    def positions(self, keys: UInt64[np.ndarray, "wanted half"]) -> Int64[np.ndarray, " wanted"]:
        """The position of each of `keys`; -1 where it is not in there."""
        found = np.full(len(keys), -1, np.int64)
        places = np.searchsorted(self.high, keys[:, 0])
        open_rows = np.arange(len(keys))
        # One step, but for keys that share their first 64 bits: those are looked at one by one.
        while len(open_rows):
            inside = places[open_rows] < len(self.high)
            open_rows = open_rows[inside]
            at = places[open_rows]
            same_high = self.high[at] == keys[open_rows, 0]
            open_rows, at = open_rows[same_high], at[same_high]
            same = self.low[at] == keys[open_rows, 1]
            found[open_rows[same]] = at[same]
            open_rows = open_rows[~same]
            places[open_rows] += 1
        return found

    def texts(self, is_wanted: Bool[np.ndarray, " ids"]) -> pa.ChunkedArray:
        """Some of the ids as Arrow strings."""
        chunks = []
        for start in range(0, len(self), _IDS_PER_CHUNK):
            here = slice(start, start + _IDS_PER_CHUNK)
            wanted = is_wanted[here]
            keys = np.stack([self.high[here][wanted], self.low[here][wanted]], axis=1)
            chunks.append(ids_of_keys(keys))
        return pa.chunked_array(chunks, pa.string())


class KeyColumns:
    """Keys that are gathered a few at a time: each half in one block of memory that grows.

    Many small arrays would take as much again while they are put together.
    """

    def __init__(self) -> None:
        self._high, self._low = GrowingArray(np.uint64), GrowingArray(np.uint64)

    def add(self, keys: Keys) -> None:
        """Appends keys."""
        self._high.add(keys[:, 0])
        self._low.add(keys[:, 1])

    def take(self) -> tuple[UInt64[np.ndarray, " keys"], UInt64[np.ndarray, " keys"]]:
        """The high and the low halves of all keys, which this object no longer holds."""
        return self._high.take(), self._low.take()


class GrowingArray:
    """Numbers that are gathered a few at a time, in one block of memory that grows."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._values = np.empty(0, dtype)
        self._length = 0

    def add(self, values: np.ndarray) -> None:
        """Appends one-dimensional `values`."""
        end = self._length + len(values)
        if end > len(self._values):
            # In place where the system can move pages instead of copying them.
            self._values.resize(max(end, int(len(self._values) * _GROWTH)), refcheck=False)
        self._values[self._length : end] = values
        self._length = end

    def take(self) -> np.ndarray:
        """All of them, which this object no longer holds."""
        values, length = self._values, self._length
        self._values, self._length = np.empty(0, values.dtype), 0
        values.resize(length, refcheck=False)
        return values


def sorted_order(
    high: UInt64[np.ndarray, " keys"], low: UInt64[np.ndarray, " keys"]
) -> Int64[np.ndarray, " keys"]:
    """The positions of keys in their order; equal ones stay in theirs."""
    order = np.argsort(high, kind="stable")
    # Hashes hardly ever share their first 64 bits; only those that do are sorted by the others.
    firsts = high[order]
    ties = np.flatnonzero(firsts[1:] == firsts[:-1])
    if len(ties):
        places = np.unique(np.concatenate([ties, ties + 1]))
        tied = order[places]
        order[places] = tied[np.lexsort((low[tied], high[tied]))]
    return order


def is_repeated(
    high: UInt64[np.ndarray, " keys"], low: UInt64[np.ndarray, " keys"]
) -> Bool[np.ndarray, " keys"]:
    """True for every key that an earlier one equals."""
    order = sorted_order(high, low)
    repeated = np.zeros(len(high), bool)
    firsts = high[order]
    ties = np.flatnonzero(firsts[1:] == firsts[:-1])
    later, earlier = order[ties + 1], order[ties]
    repeated[later[low[later] == low[earlier]]] = True
    return repeated


def keys_of_digests(digests: Iterable[bytes]) -> Keys:
    """Keys of 16-byte digests."""
    return _keys_of_bytes(b"".join(digests))


def keys_of_packed(ids: pa.Array) -> Keys:
    """Keys of packed ids; of a null one, zeros."""
    if ids.null_count:
        ids = pc.fill_null(ids, bytes(_BYTES))
    values = ids.buffers()[1]
    return _keys_of_bytes(values.slice(ids.offset * _BYTES, len(ids) * _BYTES) if values else b"")


def ids_of_keys(keys: Keys) -> pa.Array:
    """The ids as Arrow strings."""
    return _texts(keys.astype(">u8").tobytes())


def packed_ids(ids: pa.Array | pa.ChunkedArray, *, allow_empty: bool = False) -> pa.ChunkedArray:
    """Packs ids that are written as digits.

    Args:
        ids: Strings.
        allow_empty: An empty one becomes null.

    Raises:
        ValueError: One of them is no id; the message shows it.
    """
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    return pa.chunked_array([_packed(chunk, allow_empty) for chunk in chunks], PACKED_ID)


def unpacked_ids(ids: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """The inverse of `packed_ids`: null becomes empty."""
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    texts = []
    for whole in chunks:
        for start in range(0, len(whole), _IDS_PER_CHUNK):
            chunk = whole.slice(start, _IDS_PER_CHUNK)
            text = ids_of_keys(keys_of_packed(chunk))
            texts.append(pc.if_else(chunk.is_valid(), text, "") if chunk.null_count else text)
    return pa.chunked_array(texts, pa.string())


def _keys_of_bytes(content: bytes | pa.Buffer) -> Keys:
    return np.frombuffer(content, ">u8").astype(np.uint64).reshape(-1, 2)


def _texts(content: bytes) -> pa.Array:
    num_ids = len(content) // _BYTES
    offsets = np.arange(num_ids + 1, dtype=np.int32) * _DIGITS
    digits = content.hex().encode()
    return pa.StringArray.from_buffers(num_ids, pa.py_buffer(offsets), pa.py_buffer(digits))


def _packed(chunk: pa.Array, allow_empty: bool) -> pa.Array:
    is_empty = pc.equal(chunk, "") if allow_empty else None
    if is_empty is not None and pc.any(is_empty).as_py():
        filled = pc.if_else(is_empty, "0" * _DIGITS, chunk)
        return pc.if_else(is_empty, pa.scalar(None, PACKED_ID), _packed(filled, False))
    octets = pa.py_buffer(_octets(chunk).tobytes())
    return pa.Array.from_buffers(PACKED_ID, len(chunk), [None, octets])


def _octets(chunk: pa.StringArray) -> UInt8[np.ndarray, " octets"]:
    _, offsets_buffer, digits_buffer = chunk.buffers()
    if not len(chunk):
        return np.empty(0, np.uint8)
    offsets = np.frombuffer(offsets_buffer, np.int32)[chunk.offset :][: len(chunk) + 1]
    if chunk.null_count or (np.diff(offsets) != _DIGITS).any():
        raise ValueError(f"{_first_odd(chunk)!r} is no id: it must have {_DIGITS} digits")
    digits = np.frombuffer(digits_buffer, np.uint8)[offsets[0] : offsets[-1]]
    nibbles = _NIBBLES[digits].reshape(-1, 2)
    if (nibbles > 15).any():
        raise ValueError(f"{_first_odd(chunk)!r} is no id: its digits must be 0-9 and a-f")
    return nibbles[:, 0] << 4 | nibbles[:, 1]


def _first_odd(chunk: pa.StringArray) -> str | None:
    hexadecimal = set("0123456789abcdef")
    for text in chunk.to_pylist():
        if text is None or len(text) != _DIGITS or not set(text) <= hexadecimal:
            return str(text)
    return None
