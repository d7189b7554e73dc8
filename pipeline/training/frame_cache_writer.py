"""Writes a frame cache: segments of videos in any order, shards one by one, the index last."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8

from pipeline.errors import PipelineError
from pipeline.records import Clip, ClipWindow, UnitEnd, VideoInfo, WorkUnit, stable_id
from pipeline.training.frame_cache import (
    FORMAT_VERSION,
    INDEX_FILE,
    CachedVideo,
    FrameIndex,
    FramePiece,
    Shard,
    UnusableVideo,
)
from pipeline.training.frame_recipe import FrameRecipe


@dataclass
class _Segment:
    """A segment that is written: its place, its size and the hash of its pixels."""

    piece: FramePiece
    height_px: int
    width_px: int
    content_id: str


@dataclass
class _OpenVideo:
    """What has arrived of a video."""

    segments: dict[int, _Segment] = field(default_factory=dict)
    fps: float = 0.0
    end: UnitEnd | None = None


class FrameCacheWriter:
    """Collects the records of the decode stage (or frames made in memory) into one directory.

    Memory holds the index alone. Frames of a video that fails after its first segments stay in
    their shard, unreachable: a few dead bytes instead of a second pass over everything. Shards have
    names of this writer's own: two may fill one remote directory, and the shards of whichever index
    is there last are all there.
    """

    def __init__(self, directory: Path, recipe: FrameRecipe, *, shard_bytes: int = 2**30) -> None:
        """Begins a cache in the existing, empty `directory`."""
        self.directory = directory
        self.recipe = recipe
        self.num_videos = 0
        self._shard_bytes = shard_bytes
        self._token = uuid.uuid4().hex[:12]
        self._videos: dict[str, _OpenVideo] = {}
        self._shards: list[Shard] = []
        self._file: BinaryIO | None = None
        self._num_bytes = 0
        self._digest = hashlib.sha256()

    def add(self, record: Clip | UnitEnd) -> None:
        """Takes a segment (see `whole_frames.segment_spec`) or the end of a video."""
        video = self._videos.setdefault(record.unit.video_id, _OpenVideo())
        if isinstance(record, UnitEnd):
            self.num_videos += video.end is None
            video.end = record
            return
        window = record.window
        if window.clip_index in video.segments:
            return  # the engine ran the task again
        video.fps = self.recipe.stored_fps(record.source.fps)
        num_real = len(record.frames) - window.num_padded_frames
        video.segments[window.clip_index] = self._append(record.frames[:num_real])

    def add_video(
        self, unit: WorkUnit, frames: UInt8[np.ndarray, "n height width 3"], fps: float
    ) -> None:
        """Takes a whole video that was made in memory, RGB in [0, 255]."""
        source = VideoInfo(frames.shape[2], frames.shape[1], fps, len(frames), None, "", "")
        window = ClipWindow(0, tuple(range(len(frames))), 0.0, len(frames) / fps)
        self.add(Clip(unit, window, source, frames))
        self.add(UnitEnd(unit, 1))

    def close(self) -> FrameIndex:
        """Writes the index; the cache is complete.

        Raises:
            PipelineError: A video began and never ended, or lacks segments.
        """
        self._close_shard()
        finished = sorted(self._videos.values(), key=_order)
        index = FrameIndex(
            version=FORMAT_VERSION,
            recipe=self.recipe,
            shards=tuple(self._shards),
            videos=tuple(_cached(video) for video in finished if not _is_unusable(video)),
            unusable=tuple(_unusable(video) for video in finished if _is_unusable(video)),
        )
        path = self.directory / INDEX_FILE
        with path.open("w", encoding="utf-8") as file:
            json.dump(index.to_mapping(), file)
            file.flush()
            os.fsync(file.fileno())
        return index

    def _append(self, frames: UInt8[np.ndarray, "n height width 3"]) -> _Segment:
        pixels = np.ascontiguousarray(frames)
        num_frames, height_px, width_px, _ = pixels.shape
        if self._file is None:
            self._file = (self.directory / self._shard_name()).open("wb")
        piece = FramePiece(len(self._shards), self._num_bytes, num_frames)
        self._file.write(pixels.data)
        self._digest.update(pixels.data)
        self._num_bytes += pixels.nbytes
        if self._num_bytes >= self._shard_bytes:
            self._close_shard()
        content_id = hashlib.sha256(pixels.data).hexdigest()
        return _Segment(piece, height_px, width_px, content_id)

    def _close_shard(self) -> None:
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._shards.append(
            Shard(
                file=self._shard_name(),
                num_bytes=self._num_bytes,
                sha256=self._digest.hexdigest(),
            )
        )
        self._file, self._num_bytes, self._digest = None, 0, hashlib.sha256()

    def _shard_name(self) -> str:
        """Name of the shard that is open, or of the next one."""
        return f"frames-{self._token}-{len(self._shards):05d}.u8"


@contextlib.contextmanager
def published(target: Path) -> Iterator[Path]:
    """A directory to write to that becomes `target` when the block ends well, and goes otherwise.

    If another process has published `target` meanwhile, its directory stays: both hold the same.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()
    try:
        with _locked(partial):
            yield partial
            try:
                os.rename(partial, target)
            except OSError:
                if not (target / INDEX_FILE).exists():
                    raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(directory: Path) -> None:
    """Removes what killed processes left half-written; a living one holds a lock on its own."""
    for partial in directory.glob(".*.partial"):
        with (
            contextlib.suppress(BlockingIOError, FileNotFoundError),
            _locked(partial, fcntl.LOCK_NB),
        ):
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: Path, flags: int = 0) -> Iterator[None]:
    """Holds a lock on `directory` itself; the system frees it if this process dies."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(descriptor)


def _order(video: _OpenVideo) -> tuple[str, str]:
    if video.end is None:
        raise PipelineError("the frame cache is incomplete: a video began and did not end")
    return (video.end.unit.uri, video.end.unit.video_id)


def _is_unusable(video: _OpenVideo) -> bool:
    assert video.end is not None
    return video.end.quarantine is not None


def _cached(video: _OpenVideo) -> CachedVideo:
    end = video.end
    assert end is not None
    if len(video.segments) != end.num_clips or not video.segments:
        raise PipelineError(
            f"{end.unit.uri}: {len(video.segments)} of {end.num_clips} segments arrived"
        )
    segments = [video.segments[number] for number in range(end.num_clips)]
    size = (segments[0].height_px, segments[0].width_px)
    assert all((segment.height_px, segment.width_px) == size for segment in segments)
    return CachedVideo(
        video_id=end.unit.video_id,
        uri=end.unit.uri,
        fingerprint=end.unit.fingerprint,
        attributes=end.unit.attributes,
        fps=video.fps,
        height_px=size[0],
        width_px=size[1],
        content_id=stable_id(*size, *(segment.content_id for segment in segments)),
        pieces=_merged([segment.piece for segment in segments], size[0] * size[1] * 3),
    )


def _merged(pieces: list[FramePiece], frame_bytes: int) -> tuple[FramePiece, ...]:
    """The pieces with neighbours made one."""
    merged = pieces[:1]
    for piece in pieces[1:]:
        last = merged[-1]
        end_bytes = last.offset_bytes + last.num_frames * frame_bytes
        if (piece.shard, piece.offset_bytes) == (last.shard, end_bytes):
            merged[-1] = last._replace(num_frames=last.num_frames + piece.num_frames)
        else:
            merged.append(piece)
    return tuple(merged)


def _unusable(video: _OpenVideo) -> UnusableVideo:
    end = video.end
    assert end is not None
    assert end.quarantine is not None
    return UnusableVideo(
        video_id=end.unit.video_id,
        uri=end.unit.uri,
        fingerprint=end.unit.fingerprint,
        reason=end.quarantine.reason,
        message=end.quarantine.message,
    )
