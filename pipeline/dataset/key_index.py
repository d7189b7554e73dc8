"""Which videos have rows in which data file, read once per file.

Data files never change, so what was read of one stays true for as long as the file is in the table.
Ids and fingerprints are held in 16 bytes each, not as their 32 digits: a table of 100 million
videos is 3.2 GB of keys.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DatasetError
from pipeline.id_index import PACKED_ID, packed_ids, unpacked_ids

KEY_COLUMNS = ("video_id", "video_fingerprint")
_NUM_READERS = 8


class KeyIndex:
    """The distinct keys of every data file of a table.

    Args:
        uri: The table, for messages.
        columns: String columns that make a key; `KEY_COLUMNS` are among them.
        read: Reads the distinct rows of these columns of the file at a path.
    """

    def __init__(
        self, uri: str, columns: Sequence[str], read: Callable[[str, Sequence[str]], pa.Table]
    ) -> None:
        self._uri = uri
        self._columns = tuple(columns)
        self._read = read
        self._by_file: dict[str, pa.Table] = {}

    def move_to(self, paths: Collection[str]) -> None:
        """Reads the keys of those files that were not read yet and forgets all others.

        Raises:
            DatasetError: A file holds ids that this pipeline did not make.
        """
        unread = [path for path in paths if path not in self._by_file]
        self._by_file.update(zip(unread, self._read_ahead(unread), strict=True))
        self._by_file = {path: self._by_file[path] for path in paths}

    def stream(self, paths: Collection[str]) -> Iterator[pa.Table]:
        """The packed keys of one file after the other; what was not read yet is not kept.

        Raises:
            DatasetError: As `move_to`.
        """
        yield from (self._by_file[path] for path in paths if path in self._by_file)
        yield from self._read_ahead([path for path in paths if path not in self._by_file])

    def keys_of(self, video_ids: pa.Array | None) -> pa.Table:
        """The keys of some videos, or of all, as text; one that is in two files is there twice."""
        tables = list(self._by_file.values())
        if video_ids is not None:
            wanted = packed_ids(pc.drop_null(video_ids))
            tables = [keys.filter(mask) for keys, mask in self._masks(wanted)]
        empty = self._schema().empty_table()
        return unpacked(pa.concat_tables([empty, *tables]))

    def num_videos(self, path: str) -> int:
        """How many videos have rows in a file."""
        return int(pc.count_distinct(self._by_file[path]["video_id"]).as_py())

    def files_with(self, video_ids: pa.Array) -> dict[str, pa.Array]:
        """The files that hold rows of `video_ids`, and of which of them."""
        wanted = packed_ids(pc.drop_null(video_ids))
        paths = {id(keys): path for path, keys in self._by_file.items()}
        return {
            paths[id(keys)]: unpacked_ids(keys["video_id"].filter(mask).unique())
            for keys, mask in self._masks(wanted)
        }

    def _masks(self, wanted: pa.Array) -> Iterator[tuple[pa.Table, pa.Array]]:
        """Which rows of which files are about the videos `wanted`; files without any left out."""
        if not len(wanted):
            return
        tables = list(self._by_file.values())
        columns = [chunk for keys in tables for chunk in keys["video_id"].chunks]
        hits = pc.is_in(pa.chunked_array(columns, PACKED_ID), value_set=wanted).to_numpy()
        ends = np.cumsum([keys.num_rows for keys in tables], dtype=np.int64)
        for keys, end in zip(tables, ends, strict=True):
            mask = hits[end - keys.num_rows : end]
            if mask.any():
                yield keys, pa.array(mask)

    def _read_ahead(self, paths: Sequence[str]) -> Iterator[pa.Table]:
        """Reads files in threads, a few of them waiting at a time."""
        if not paths:
            return
        with ThreadPoolExecutor(_NUM_READERS) as readers:
            waiting: deque[Future[pa.Table]] = deque()
            for path in paths:
                waiting.append(readers.submit(self._read_packed, path))
                if len(waiting) > 2 * _NUM_READERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _read_packed(self, path: str) -> pa.Table:
        keys = self._read(path, self._columns)
        for place, name in enumerate(keys.schema.names):
            if name in KEY_COLUMNS:
                try:
                    packed = packed_ids(keys[name], allow_empty=name == "video_fingerprint")
                except ValueError as error:
                    raise DatasetError(
                        f"{self._uri}: column {name} of {path}: {error}; another program has "
                        "written to the table: restore an earlier version of it"
                    ) from None
                keys = keys.set_column(place, name, packed)
        return keys

    def _schema(self) -> pa.Schema:
        kinds = [PACKED_ID if name in KEY_COLUMNS else pa.string() for name in self._columns]
        return pa.schema(list(zip(self._columns, kinds, strict=True)))


def distinct(keys: pa.Table) -> pa.Table:
    """`keys` with every row once."""
    return keys.group_by(keys.schema.names).aggregate([]).combine_chunks()


def unpacked(keys: pa.Table) -> pa.Table:
    """Packed keys with their ids as text."""
    for place, name in enumerate(keys.schema.names):
        if keys.schema.field(name).type == PACKED_ID:
            keys = keys.set_column(place, name, unpacked_ids(keys[name]))
    return keys
