"""Decoded frames on disk: every video's frames as uint8, mapped into memory when they are read.

    <directory>/index.json                 recipe, hashes, per video where its frames lie
    <directory>/frames-<writer>-00000.u8   raw frames [height, width, 3], one after the other
    <directory>/frames-<writer>-00001.u8   …

The frames of a video are one sequence, whatever pieces they are stored in: a clip may begin at any
of them. A directory that holds an index is complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from pipeline.errors import PipelineError, QuarantineReason, RecordError, TransientError
from pipeline.records import stable_id
from pipeline.storage import (
    StorageConfig,
    is_local,
    local_path,
    open_filesystem,
    typed_read_errors,
    with_retries,
)
from pipeline.training.augmentation import ClipViews, StoredClips, copy_view
from pipeline.training.frame_recipe import FrameRecipe
from sweettok.errors import ConfigError
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

INDEX_FILE = "index.json"
FORMAT_VERSION = 1
_REMEDY = "remove the directory to have it made again"
_ResultT = TypeVar("_ResultT")


class FramePiece(NamedTuple):
    """Consecutive frames of a video in one shard.

    Attributes:
        shard: Number of the shard.
        offset_bytes: Where in the shard the first of them begins.
        num_frames: How many there are.
    """

    shard: int
    offset_bytes: int
    num_frames: int


class CachedVideo(StrictConfig):
    """A video of the cache.

    Attributes:
        video_id, uri, fingerprint, attributes: As the listing gave them.
        fps: Rate of the stored frames in frames per second.
        height_px, width_px: Size of the stored frames.
        content_id: Hash of the pixels.
        pieces: Where the frames lie, in their order.
    """

    video_id: str
    uri: str
    fingerprint: str
    attributes: dict[str, str]
    fps: float
    height_px: int
    width_px: int
    content_id: str
    pieces: tuple[FramePiece, ...]

    @property
    def num_frames(self) -> int:
        """Stored frames."""
        return sum(piece.num_frames for piece in self.pieces)


class UnusableVideo(StrictConfig):
    """A video that gave no frames, and why."""

    video_id: str
    uri: str
    fingerprint: str
    reason: QuarantineReason
    message: str


class Shard(StrictConfig):
    """A file of frames: its name, size and SHA-256."""

    file: str
    num_bytes: int
    sha256: str


class FrameIndex(StrictConfig):
    """What `index.json` says.

    Attributes:
        version: Version of the format.
        recipe: What decided the pixels.
        shards: Files of frames.
        videos: Sorted by URI, then by id: the order does not depend on who decoded what first.
        unusable: Videos without frames.
    """

    version: int
    recipe: FrameRecipe
    shards: tuple[Shard, ...]
    videos: tuple[CachedVideo, ...]
    unusable: tuple[UnusableVideo, ...]

    @classmethod
    def parse(cls, text: str | bytes, origin: str) -> FrameIndex:
        """Reads the JSON of an index file.

        Raises:
            PipelineError: It is damaged or of another format.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise PipelineError(f"{origin}: is no JSON: {error}; {_REMEDY}") from None
        found = values.get("version") if isinstance(values, dict) else None
        if found != FORMAT_VERSION:
            raise PipelineError(
                f"{origin}: format {found}, this code reads {FORMAT_VERSION}; {_REMEDY}"
            )
        try:
            return cls.from_mapping(values, origin=origin)
        except ConfigError as error:
            raise PipelineError(f"{error}; {_REMEDY}") from None

    @property
    def num_frames(self) -> Int64[np.ndarray, " videos"]:
        """Frames of each video."""
        return np.array([video.num_frames for video in self.videos], np.int64)

    @property
    def fingerprint(self) -> str:
        """Hash of all pixels and of the order of videos, wherever and however they are stored."""
        return stable_id(*((video.video_id, video.content_id) for video in self.videos))


class FrameCache:
    """A frame cache in a local directory, for reading; every process opens its own."""

    def __init__(self, directory: Path, index: FrameIndex) -> None:
        self.directory = directory
        self.index = index
        self.num_frames = index.num_frames
        self._shards: dict[int, np.ndarray] = {}
        self._ends: dict[int, Int64[np.ndarray, " pieces"]] = {}

    @classmethod
    def open(cls, directory: str | Path) -> FrameCache:
        """Opens a complete cache; shards are mapped when they are first needed.

        Raises:
            PipelineError: There is none, it is damaged, or it has another format.
        """
        directory = Path(directory)
        try:
            text = (directory / INDEX_FILE).read_bytes()
        except OSError as error:
            raise PipelineError(
                f"{directory}: holds no complete frame cache ({error.strerror}); give a directory "
                "that every node reaches"
            ) from None
        index = FrameIndex.parse(text, str(directory / INDEX_FILE))
        for shard in index.shards:
            _check_size(directory / shard.file, shard.num_bytes)
        return cls(directory, index)

    @property
    def videos(self) -> tuple[CachedVideo, ...]:
        """The videos that gave frames."""
        return self.index.videos

    def stored_clips(
        self, videos: Int64[np.ndarray, " b"], grid_starts: Int64[np.ndarray, " b"]
    ) -> StoredClips:
        """What there is to cut clips from: `videos` are positions in `self.videos`."""
        return StoredClips(grid_starts, self.num_frames[videos], *self._sizes[:, videos])

    def read_clips(
        self, videos: Int64[np.ndarray, " b"], views: ClipViews, shape: tuple[int, int, int]
    ) -> UInt8[np.ndarray, "b t h w 3"]:
        """Reads clips of `shape` (frames, height, width); the last frame of a short one repeats."""
        clips = np.empty((len(videos), *shape, 3), np.uint8)
        for row, (video, clip) in enumerate(zip(videos.tolist(), clips, strict=True)):
            num_real = views.num_real_frames(row, int(self.num_frames[video]), shape[0])
            first = int(views.starts[row])
            last = first + (num_real - 1) * int(views.strides[row])
            for first_frame, piece in self._pieces(video, first, last):
                copy_view(piece, first_frame, views, row, clip)
            clip[num_real:] = clip[num_real - 1]
        return clips

    @cached_property
    def _sizes(self) -> Int64[np.ndarray, "2 videos"]:
        sizes = [(video.height_px, video.width_px) for video in self.videos]
        return np.array(sizes, np.int64).reshape(-1, 2).T

    def _pieces(
        self, video: int, first: int, last: int
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "n height width 3"]]]:
        """The pieces that hold frames `first` to `last`, each with the number of its first one."""
        found = self.videos[video]
        if video not in self._ends:
            self._ends[video] = np.cumsum([piece.num_frames for piece in found.pieces])
        ends = self._ends[video]
        begin, end = np.searchsorted(ends, [first, last], side="right").tolist()
        shape = (found.height_px, found.width_px, 3)
        wanted = slice(begin, end + 1)
        for piece, piece_end in zip(found.pieces[wanted], ends[wanted], strict=True):
            num_bytes = piece.num_frames * shape[0] * shape[1] * 3
            flat = self._shard(piece.shard)[piece.offset_bytes : piece.offset_bytes + num_bytes]
            yield int(piece_end) - piece.num_frames, flat.reshape(piece.num_frames, *shape)

    def _shard(self, number: int) -> UInt8[np.ndarray, " num_bytes"]:
        if number not in self._shards:
            path = self.directory / self.index.shards[number].file
            # A plain array over the map: slices of np.memmap cost a Python call each.
            self._shards[number] = np.asarray(np.memmap(path, np.uint8, "r"))
        return self._shards[number]


def ensure_local(uri: str, storage: StorageConfig, local_directory: str | None = None) -> Path:
    """A directory on this machine with the complete cache of `uri`.

    A local (or mounted) cache is its own copy. A remote one is downloaded once per machine, however
    many processes ask, and checked against the hashes of its index.

    Raises:
        PipelineError: The remote cache is incomplete or does not match its hashes.
    """
    if is_local(uri):
        return Path(local_path(uri))
    root = Path(local_directory or Path(tempfile.gettempdir()) / "sweettok-frames")
    target = root / (hashlib.sha256(uri.encode()).hexdigest()[:8] + "-" + uri.rsplit("/", 1)[-1])
    root.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(target.name + ".lock")):
        if not (target / INDEX_FILE).exists():
            partial = target.with_name(target.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _download(uri, storage, partial)
            os.replace(partial, target)
            logger.info("frame cache %s copied to %s", uri, target)
    return target


def call_store(uri: str, storage: StorageConfig, action: Callable[[], _ResultT]) -> _ResultT:
    """Runs `action` on the store of `uri`, again after a wait if its failure may pass.

    Raises:
        PipelineError: Whatever the store says, as one readable line.
    """

    def attempt() -> _ResultT:
        with typed_read_errors(uri):
            return action()

    try:
        return with_retries(attempt, storage)
    except (RecordError, TransientError) as error:
        raise PipelineError(f"{uri}: {error}") from error


def _download(uri: str, storage: StorageConfig, directory: Path) -> None:
    filesystem, path = open_filesystem(uri, storage)

    def fetch(name: str) -> Path:
        local, remote = directory / name, f"{path}/{name}"
        call_store(uri, storage, lambda: filesystem.get_file(remote, str(local)))
        return local

    text = fetch(INDEX_FILE).read_bytes()
    for shard in FrameIndex.parse(text, f"{uri}/{INDEX_FILE}").shards:
        local = fetch(shard.file)
        _check_size(local, shard.num_bytes)
        if _sha256_of(local) != shard.sha256:
            raise PipelineError(f"{uri}/{shard.file}: does not match the hash in its index")


def _check_size(path: Path, num_bytes: int) -> None:
    found = path.stat().st_size if path.exists() else 0
    if found != num_bytes:
        raise PipelineError(f"{path}: {found} bytes, its index says {num_bytes}; {_REMEDY}")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock file `path`; the system frees it if this process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
