"""Held-out clips to evaluate on: the same ones at every step, on every worker, in every run."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.clips import ClipConfig
from pipeline.errors import SourceError
from pipeline.training.augmentation import centre_views
from pipeline.training.clip_sampler import ClipGrid, check_frame_size
from pipeline.training.frame_cache import CachedVideo, FrameCache
from sweettok.geometry import ClipGeometry


class EvaluationClips:
    """Non-overlapping clips without augmentation, the middle of each frame.

    If there are more than `max_clips`, they are spread evenly over all of them, so that every video
    is seen in proportion to its length.
    """

    def __init__(
        self, cache: FrameCache, clips: ClipConfig, geometry: ClipGeometry, max_clips: int
    ) -> None:
        """Chooses the clips; not one frame is read yet.

        Raises:
            SourceError: No video is long enough, or frames are smaller than the geometry.
        """
        check_frame_size(cache.index.recipe, geometry)
        tail = "pad" if clips.tail == "pad" else "drop"
        apart = clips.model_copy(update={"hop_frames": None, "tail": tail})
        grid = ClipGrid(cache.num_frames, geometry.num_frames, apart)
        if not len(grid):
            raise SourceError(
                f"none of the {len(cache.videos)} usable held-out videos gives a clip of "
                f"{geometry.num_frames} frames; hold out longer ones or more of them"
            )
        num_clips = min(max_clips, len(grid))
        middles = (np.arange(num_clips) * 2 + 1) * len(grid) // (2 * num_clips)
        self._videos, self._starts = grid.locate(middles)
        self._cache, self._geometry = cache, geometry

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, chosen: slice) -> UInt8[Tensor, "b t h w c"]:
        """Reads the clips of a slice, RGB in [0, 255]."""
        geometry, videos = self._geometry, self._videos[chosen]
        stored = self._cache.stored_clips(videos, self._starts[chosen])
        shape = (geometry.num_frames, geometry.height_px, geometry.width_px)
        return torch.from_numpy(
            self._cache.read_clips(videos, centre_views(stored, geometry), shape)
        )

    @property
    def videos(self) -> list[CachedVideo]:
        """The video of each clip; its attributes carry the labels that the source gave."""
        return [self._cache.videos[video] for video in self._videos.tolist()]
