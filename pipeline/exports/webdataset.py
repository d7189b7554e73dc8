"""Clips as WebDataset shards: plain tar files, per clip one `.npy` of ids and one `.json`.

A clip's members share its id as their key:

    <clip_id>.spatial.npy, <clip_id>.temporal.npy    int16 arrays
    <clip_id>.json                                   the other columns
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from pipeline.whole_files import replace_file


@dataclass(frozen=True)
class ExportedClip:
    """One clip on its way into a shard.

    Attributes:
        clip_id: Its key.
        spatial: Ids into the spatial codebook.
        temporal: Ids into the temporal codebook.
        columns: JSON values that go with it.
    """

    clip_id: str
    spatial: Int16[np.ndarray, " s"]
    temporal: Int16[np.ndarray, " m"]
    columns: dict[str, Any]


def write_shards(
    clips: Iterable[ExportedClip], directory: str | Path, *, clips_per_shard: int
) -> list[Path]:
    """Writes `shard-000000.tar` and so on; the same clips give the same bytes.

    Each shard appears whole. Returns the shards in order.
    """
    Path(directory).mkdir(parents=True, exist_ok=True)
    waiting = iter(clips)
    shards: list[Path] = []
    while part := list(islice(waiting, clips_per_shard)):
        path = Path(directory) / f"shard-{len(shards):06}.tar"
        replace_file(path, _shard(part))
        shards.append(path)
    return shards


def _shard(clips: list[ExportedClip]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as shard:
        for name, value in (member for clip in clips for member in _members(clip)):
            entry = tarfile.TarInfo(name)
            entry.size = len(value)
            shard.addfile(entry, io.BytesIO(value))
    return content.getvalue()


def _members(clip: ExportedClip) -> Iterator[tuple[str, bytes]]:
    for kind, ids in (("spatial", clip.spatial), ("temporal", clip.temporal)):
        content = io.BytesIO()
        np.save(content, ids, allow_pickle=False)
        yield f"{clip.clip_id}.{kind}.npy", content.getvalue()
    text = json.dumps(clip.columns, ensure_ascii=False, sort_keys=True)
    yield f"{clip.clip_id}.json", text.encode()
