"""What only all rows together show: no clip twice, no gap in a video, one state per video.

A row's key is 52 bytes. Keys are spread over scratch files by their video, so that all rows of a
video meet in one of them, and each file is then sorted alone: 100 million clips need 5.2 GB of
scratch space and memory for one file of 64 MB. (Two rows of one clip id in different videos need
no look across files: one of the two ids cannot be that of its row, which `clip_rows` finds.)
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

from pipeline.verification.findings import CheckResult
from pipeline.verification.remedies import make_again

KEY_TYPE = np.dtype(
    [
        ("video", ">u8", 2),
        ("clip", ">u8", 2),
        ("fingerprint", ">u8"),
        ("index", "<i4"),
        ("file", "<i4"),
        ("row", "<i4"),
    ]
)
"""Ids as their 128 bits (a fingerprint folded to 64), and where the row is."""

_KEY_COLUMNS = ("video_id", "clip_id", "video_fingerprint", "clip_index")
_PARTITION_BYTES = 64 * 2**20
_MAX_OPEN_FILES = 512

Keys = Shaped[np.ndarray, " num_rows"]


def keys_of(rows: pa.RecordBatch, file: int, first_row: int, places: pa.Array) -> Keys:
    """Keys of some rows of a batch.

    Args:
        rows: A batch with the columns clip_id, video_id, video_fingerprint and clip_index.
        file: Number of the file they are in.
        first_row: Number of the batch's first row in that file.
        places: Which rows; their ids are all of 32 hexadecimal digits.
    """
    column = {name: rows.column(name).take(places) for name in _KEY_COLUMNS}
    keys = np.empty(len(places), KEY_TYPE)
    keys["video"] = id_bits(column["video_id"])
    keys["clip"] = id_bits(column["clip_id"])
    fingerprints = id_bits(column["video_fingerprint"])
    keys["fingerprint"] = fingerprints[:, 0] ^ fingerprints[:, 1]
    keys["index"] = column["clip_index"].to_numpy()
    keys["file"], keys["row"] = file, first_row + places.to_numpy()
    return keys


def id_bits(ids: pa.Array) -> Shaped[np.ndarray, "num_rows 2"]:
    """Ids of 32 hexadecimal digits as two unsigned 64-bit numbers each."""
    return np.frombuffer(bytes.fromhex("".join(ids.to_pylist())), ">u8").reshape(-1, 2)


class KeyPartitions:
    """Keys of any number of rows in scratch files; rows may be added by several threads.

    Args:
        directory: Where the files go; the caller removes it.
        num_rows: About how many rows there will be.
    """

    def __init__(self, directory: Path, num_rows: int) -> None:
        needed = -(-num_rows * KEY_TYPE.itemsize // _PARTITION_BYTES)
        self._paths = [
            directory / f"keys-{number:04}"
            for number in range(min(max(1, needed), _MAX_OPEN_FILES))
        ]
        self._lock = threading.Lock()
        self._files = [path.open("wb") for path in self._paths]

    def add(self, keys: Keys) -> None:
        """Files the keys under their videos."""
        number = keys["video"][:, 0] % np.uint64(len(self._files))
        order = np.argsort(number, kind="stable")
        starts = np.searchsorted(number[order], np.arange(len(self._files) + 1))
        with self._lock:
            for file, start, end in zip(self._files, starts[:-1], starts[1:], strict=True):
                if end > start:
                    file.write(keys[order[start:end]].tobytes())

    def close(self) -> None:
        """Closes the files; safe to call twice."""
        for file in self._files:
            file.close()

    def __iter__(self) -> Iterator[Keys]:
        """The keys of one file after the other; nothing may be added any more."""
        self.close()
        for path in self._paths:
            yield np.fromfile(path, KEY_TYPE)


class VideoCheck:
    """Checks the keys of all rows, partition by partition.

    Args:
        dataset_uri: Root of the dataset, for the advice.
        paths: Paths of the files, by their numbers in the keys.
        are_complete: Whether the keys are those of all rows; without some of them a gap in a
            video says nothing.
    """

    def __init__(self, dataset_uri: str, paths: list[str], *, are_complete: bool) -> None:
        self.result = CheckResult("videos", "video")
        self._dataset_uri = dataset_uri
        self._paths = paths
        self._are_complete = are_complete
        if not are_complete:
            self.result.notes.append(
                "videos were not searched for gaps: some rows could not be read"
            )

    def check(self, keys: Keys) -> None:
        """Takes all keys of some videos."""
        if not len(keys):
            return
        keys = self._without_repeats(keys)
        video = keys["video"]
        keys = keys[np.lexsort((keys["index"], video[:, 1], video[:, 0]))]
        starts = _group_starts(keys["video"])
        counts = np.diff(np.append(starts, len(keys)))
        self.result.num_checked += len(starts)
        self._check_fingerprints(keys, starts, counts)
        if self._are_complete:
            self._check_indices(keys, starts, counts)

    def _without_repeats(self, keys: Keys) -> Keys:
        clip = keys["clip"]
        keys = keys[np.lexsort((keys["row"], keys["file"], clip[:, 1], clip[:, 0]))]
        is_first = np.zeros(len(keys), bool)
        is_first[_group_starts(keys["clip"])] = True
        for place in np.flatnonzero(~is_first):
            self.result.add(
                self._where(keys[place]),
                f"clip {_hex(keys[place]['clip'])} is also in {self._where(keys[place - 1])}",
                self._remedy(*keys[place - 1 : place + 1]),
            )
        return keys[is_first]

    def _check_fingerprints(self, keys: Keys, starts: np.ndarray, counts: np.ndarray) -> None:
        first = np.repeat(keys["fingerprint"][starts], counts)
        group = np.repeat(np.arange(len(starts)), counts)
        for number in np.unique(group[keys["fingerprint"] != first]):
            rows = keys[starts[number] :][: counts[number]]
            other = rows[np.flatnonzero(rows["fingerprint"] != rows["fingerprint"][0])[0]]
            self.result.add(
                f"video {_hex(rows[0]['video'])}",
                f"{self._where(rows[0])} and {self._where(other)} hold different fingerprints of "
                "it: its rows belong to different states of the file",
                self._remedy(rows[0]),
            )

    def _check_indices(self, keys: Keys, starts: np.ndarray, counts: np.ndarray) -> None:
        expected = np.arange(len(keys)) - np.repeat(starts, counts)
        group = np.repeat(np.arange(len(starts)), counts)
        for number in np.unique(group[keys["index"] != expected]):
            rows = keys[starts[number] :][: counts[number]]
            self.result.add(
                f"video {_hex(rows[0]['video'])} ({self._where(rows[0])})",
                f"its {len(rows)} clips are not numbered 0 to {len(rows) - 1}: "
                f"{_shown_indices(rows['index'])}",
                self._remedy(rows[0]),
            )

    def _remedy(self, *keys: np.void) -> str:
        return make_again(self._dataset_uri, (_hex(key["video"]) for key in keys))

    def _where(self, key: np.void) -> str:
        return f"{self._paths[key['file']]} row {key['row']}"


class VideoSearch:
    """Looks for some videos among the keys of all rows.

    Attributes:
        found: Those of them that have a row.
    """

    def __init__(self, video_ids: Collection[str]) -> None:
        self.found: set[str] = set()
        self._wanted = frozenset(video_ids)
        self._first_bits = id_bits(pa.array(self._wanted, pa.string()))[:, 0]

    def add(self, keys: Keys) -> None:
        """Takes some keys."""
        likely = keys["video"][np.isin(keys["video"][:, 0], self._first_bits)]
        self.found |= self._wanted.intersection(map(_hex, np.unique(likely, axis=0)))


def _group_starts(ids: Shaped[np.ndarray, "num_rows 2"]) -> np.ndarray:
    changes = (ids[1:] != ids[:-1]).any(axis=1)
    return np.flatnonzero(np.append(True, changes))


def _shown_indices(indices: np.ndarray) -> str:
    missing = np.setdiff1d(np.arange(indices.max() + 1), indices)
    values, counts = np.unique(indices, return_counts=True)
    parts = [("missing", missing), ("more than once", values[counts > 1])]
    return "; ".join(
        f"{label}: {', '.join(map(str, found[:5]))}{' …' if len(found) > 5 else ''}"
        for label, found in parts
        if len(found)
    )


def _hex(bits: np.ndarray) -> str:
    return f"{int(bits[0]):016x}{int(bits[1]):016x}"
