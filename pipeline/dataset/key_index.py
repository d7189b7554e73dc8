"""Which videos have rows in which data file, read once per file.

Data files never change, so what was read of one stays true for as long as the file is in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NUM_READERS = 8


class KeyIndex:
    """The distinct keys of every data file of a table.

    Args:
        columns: String columns that make a key; "video_id" is among them.
        read: Reads these columns of the file at a path.
    """

    def __init__(
        self, columns: Sequence[str], read: Callable[[str, Sequence[str]], pa.Table]
    ) -> None:
        self._columns = tuple(columns)
        self._read = read
        self._by_file: dict[str, pa.Table] = {}

    def move_to(self, paths: Collection[str]) -> None:
        """Reads the keys of those files that were not read yet and forgets all others."""
        unread = [path for path in paths if path not in self._by_file]
        if unread:
            with ThreadPoolExecutor(_NUM_READERS) as readers:
                read = readers.map(lambda path: distinct(self._read(path, self._columns)), unread)
                self._by_file.update(zip(unread, read, strict=True))
        self._by_file = {path: self._by_file[path] for path in paths}

    def all_keys(self) -> pa.Table:
        """The keys of all files; a key that is in two files is there twice."""
        empty = pa.table({name: pa.array([], pa.string()) for name in self._columns})
        return pa.concat_tables([empty, *self._by_file.values()])

    def num_videos(self, path: str) -> int:
        """How many videos have rows in a file."""
        return int(pc.count_distinct(self._by_file[path]["video_id"]).as_py())

    def files_with(self, video_ids: pa.Array) -> dict[str, pa.Array]:
        """The files that hold rows of `video_ids`, and of which of them."""
        hits = pc.is_in(self.all_keys()["video_id"], value_set=video_ids).to_numpy()
        ends = np.cumsum([keys.num_rows for keys in self._by_file.values()], dtype=np.int64)
        found = {}
        for (path, keys), end in zip(self._by_file.items(), ends, strict=True):
            mask = hits[end - keys.num_rows : end]
            if mask.any():
                found[path] = keys["video_id"].filter(pa.array(mask)).unique()
        return found


def distinct(keys: pa.Table) -> pa.Table:
    """`keys` with every row once."""
    return keys.group_by(keys.schema.names).aggregate([]).combine_chunks()
