"""Flat sequences as a Megatron dataset: a `.bin` of ids and an `.idx` that says where each begins.

Format of the index, little-endian: "MMIDIDX" and two zero bytes; version 1 (uint64); code of the
ids' type (uint8); numbers of sequences and of document borders (uint64 each); lengths (int32),
byte offsets (int64) and the sequence number of each document border (int64). Source: the reader in
Megatron Core (megatron/core/datasets/indexed_dataset.py); here every clip is a document.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int

from pipeline.whole_files import replace_file

_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_CODES = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}
_UINT16_IDS = 2**16


class MegatronWriter:
    """Writes one dataset: `PREFIX.bin` and `PREFIX.idx`.

    The index appears last, in one step, so a dataset that was cut short cannot be opened.

    Args:
        prefix: Path without suffix.
        num_ids: Ids are in [0, num_ids); two bytes each where that suffices.
    """

    def __init__(self, prefix: str | Path, num_ids: int) -> None:
        self._prefix = str(prefix)
        self._dtype = np.dtype(np.uint16 if num_ids <= _UINT16_IDS else np.int32)
        self._lengths: list[int] = []

    def write(self, sequences: Iterable[Int[np.ndarray, " length"]]) -> int:
        """Writes all sequences; returns how many."""
        Path(self._prefix).parent.mkdir(parents=True, exist_ok=True)
        index, data = Path(f"{self._prefix}.idx"), Path(f"{self._prefix}.bin")
        index.unlink(missing_ok=True)
        with data.open("wb") as file:
            for sequence in sequences:
                file.write(np.ascontiguousarray(sequence, self._dtype).tobytes())
                self._lengths.append(len(sequence))
        replace_file(index, self._index())
        return len(self._lengths)

    def _index(self) -> bytes:
        lengths = np.array(self._lengths, "<i4")
        ends = np.cumsum(lengths, dtype=np.int64) * self._dtype.itemsize
        offsets = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1]])
        borders = np.arange(len(lengths) + 1, dtype="<i8")
        return b"".join(
            [
                _MAGIC,
                struct.pack("<QBQQ", _VERSION, _CODES[self._dtype], len(lengths), len(borders)),
                lengths.tobytes(),
                offsets.astype("<i8").tobytes(),
                borders.tobytes(),
            ]
        )
