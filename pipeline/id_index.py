"""Finding 128-bit ids among many, with NumPy: 24 bytes an id, no Python object per id."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt64

_DIGITS = 32  # hexadecimal digits of an id
_NIBBLES = np.full(256, 255, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)


class IdIndex:
    """Positions of keys in an array of distinct keys, by binary search in a sorted copy."""

    def __init__(self, keys: UInt64[np.ndarray, "keys half"]) -> None:
        self._order = _sorted_order(keys)
        self._high, self._low = keys[self._order, 0], keys[self._order, 1]

    def positions(self, keys: UInt64[np.ndarray, "wanted half"]) -> Int64[np.ndarray, " wanted"]:
        """The position of each of `keys` in the array; -1 where it is not in there."""
        found = np.full(len(keys), -1, np.int64)
        places = np.searchsorted(self._high, keys[:, 0])
        open_rows = np.arange(len(keys))
        # One step, but for keys that share their first 64 bits: those are looked at one by one.
        while len(open_rows):
            inside = places[open_rows] < len(self._high)
            open_rows = open_rows[inside]
            at = places[open_rows]
            same_high = self._high[at] == keys[open_rows, 0]
            open_rows, at = open_rows[same_high], at[same_high]
            same = self._low[at] == keys[open_rows, 1]
            found[open_rows[same]] = self._order[at[same]]
            open_rows = open_rows[~same]
            places[open_rows] += 1
        return found


def first_occurrences(keys: UInt64[np.ndarray, "keys half"]) -> Bool[np.ndarray, " keys"]:
    """True for every key that no earlier one equals."""
    order = _sorted_order(keys)
    is_first = np.ones(len(keys), bool)
    repeats = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    is_first[order[1:][repeats]] = False
    return is_first


def keys_of_digests(digests: Iterable[bytes]) -> UInt64[np.ndarray, "keys half"]:
    """Keys of 16-byte digests."""
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64).reshape(-1, 2)


def keys_of_ids(ids: pa.Array | pa.ChunkedArray) -> UInt64[np.ndarray, "keys half"]:
    """Keys of ids written as 32 hexadecimal digits.

    Raises:
        ValueError: One of them is not; the message shows it.
    """
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    parts = [_keys_of_chunk(chunk) for chunk in chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)


def ids_of_keys(keys: UInt64[np.ndarray, "keys half"]) -> pa.Array:
    """The ids as Arrow strings (the inverse of `keys_of_ids`)."""
    digits = keys.astype(">u8").tobytes().hex().encode()
    offsets = np.arange(len(keys) + 1, dtype=np.int32) * _DIGITS
    return pa.StringArray.from_buffers(len(keys), pa.py_buffer(offsets), pa.py_buffer(digits))


def _keys_of_chunk(chunk: pa.StringArray) -> UInt64[np.ndarray, "keys half"]:
    _, offsets_buffer, digits_buffer = chunk.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[chunk.offset :][: len(chunk) + 1]
    if chunk.null_count or (np.diff(offsets) != _DIGITS).any():
        raise ValueError(f"{_first_odd(chunk)!r} is no id: it must have {_DIGITS} digits")
    digits = np.frombuffer(digits_buffer, np.uint8)[offsets[0] : offsets[-1]]
    nibbles = _NIBBLES[digits].reshape(-1, 2)
    if (nibbles > 15).any():
        raise ValueError(f"{_first_odd(chunk)!r} is no id: its digits must be 0-9 and a-f")
    octets = nibbles[:, 0] << 4 | nibbles[:, 1]
    return octets.view(">u8").astype(np.uint64).reshape(-1, 2)


def _first_odd(chunk: pa.StringArray) -> str | None:
    hexadecimal = set("0123456789abcdef")
    for text in chunk.to_pylist():
        if text is None or len(text) != _DIGITS or not set(text) <= hexadecimal:
            return str(text)
    return None


def _sorted_order(keys: UInt64[np.ndarray, "keys half"]) -> Int64[np.ndarray, " keys"]:
    """Stable: equal keys stay in their order."""
    return np.lexsort((keys[:, 1], keys[:, 0]))
