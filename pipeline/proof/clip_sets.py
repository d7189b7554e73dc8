"""Clips of a frame cache, named by video and first frame, with labels where there are any."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from pipeline.proof.spreading import spread_over_labels, spread_positions
from pipeline.training.augmentation import centre_views
from pipeline.training.frame_cache import FrameCache
from sweettok.geometry import ClipGeometry


@dataclass(frozen=True)
class ClipSet:
    """Unaugmented clips, the middle of each frame; small, so it can travel to other processes.

    Attributes:
        cache: Directory of the frame cache.
        geometry: Size of the clips.
        videos: Position of each clip's video in the cache.
        starts: First frame of each clip.
        labels: Class of each clip; empty if there are none.
    """

    cache: str
    geometry: ClipGeometry
    videos: tuple[int, ...]
    starts: tuple[int, ...]
    labels: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def num_videos(self) -> int:
        """Of how many videos the clips are."""
        return len(set(self.videos))

    def chosen_positions(self, max_clips: int) -> tuple[int, ...]:
        """Positions of at most so many clips, ascending: spread over all, and over the labels."""
        if self.labels:
            return tuple(spread_over_labels(self.labels, max_clips).tolist())
        return tuple(spread_positions(len(self), max_clips).tolist())

    def evenly_chosen(self, max_clips: int) -> ClipSet:
        """The clips at `chosen_positions`."""
        chosen = self.chosen_positions(max_clips)
        return dataclasses.replace(
            self,
            videos=tuple(self.videos[index] for index in chosen),
            starts=tuple(self.starts[index] for index in chosen),
            labels=tuple(self.labels[index] for index in chosen) if self.labels else (),
        )

    def batches(self, batch_size: int) -> Iterator[UInt8[Tensor, "b t h w c"]]:
        """The clips in their order, RGB in [0, 255]."""
        for first in range(0, len(self), batch_size):
            yield self.read(slice(first, first + batch_size))

    def read(self, chosen: slice) -> UInt8[Tensor, "b t h w c"]:
        """The clips of a slice, RGB in [0, 255]."""
        videos = np.array(self.videos[chosen], np.int64)
        starts = np.array(self.starts[chosen], np.int64)
        cache = _opened(self.cache)
        views = centre_views(cache.stored_clips(videos, starts), self.geometry)
        shape = (self.geometry.num_frames, self.geometry.height_px, self.geometry.width_px)
        return torch.from_numpy(cache.read_clips(videos, views, shape))

    @property
    def label_tensor(self) -> Int[Tensor, " n"]:
        """The labels; there must be some."""
        assert self.labels, "these clips have no labels"
        return torch.tensor(self.labels)


@functools.lru_cache(maxsize=8)
def _opened(directory: str) -> FrameCache:
    """One open cache per process and directory, however many sets name clips of it."""
    return FrameCache.open(directory)
