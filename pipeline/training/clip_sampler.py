"""Which clips a training step sees: a pure function of the seed, the step and the rank.

The clips of all steps are one endless sequence: epoch after epoch, each a permutation of all grid
positions of all videos. Step s of a run takes the next `world_size × batch_size` of it and every
rank its part, so that no clip is left out at an epoch's end, few clips are enough for a large
batch, and a restored run goes on exactly where it was.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt8

from pipeline.clips import ClipConfig
from pipeline.errors import SourceError
from pipeline.training.augmentation import NUM_DRAWS, random_views
from pipeline.training.data_config import DataConfig
from pipeline.training.frame_cache import FrameCache, FrameIndex
from pipeline.training.frame_recipe import FrameRecipe
from sweettok.geometry import ClipGeometry

_KEPT_PERMUTATIONS = 2  # eight bytes per clip each


class ClipGrid:
    """The grid positions of all clips of a cache: every `hop_frames` frames, video after video.

    The rules are those of `ClipConfig`: `tail` decides about the frames after the last whole clip,
    videos shorter than a clip count only with `tail="pad"`. A clip lies within one video; where its
    pieces are stored plays no part.
    """

    def __init__(
        self, num_frames: Int64[np.ndarray, " videos"], clip_frames: int, config: ClipConfig
    ) -> None:
        """Lays the grid over videos of `num_frames` frames each."""
        self.num_frames = num_frames
        self.clip_frames = clip_frames
        self.hop_frames = config.hop_frames or clip_frames
        self.shifts_back = config.tail == "shift_back"
        counts = _count_positions(num_frames, clip_frames, self.hop_frames, config)
        if config.max_clips_per_video is not None:
            counts = np.minimum(counts, config.max_clips_per_video)
        self._ends = np.cumsum(counts)
        self._begins = self._ends - counts

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(
        self, positions: Int64[np.ndarray, " b"]
    ) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
        """The video and the first frame of each position."""
        videos = np.searchsorted(self._ends, positions, side="right")
        starts = (positions - self._begins[videos]) * self.hop_frames
        if self.shifts_back:
            starts = np.minimum(starts, self.num_frames[videos] - self.clip_frames)
        return videos, starts


class ClipSampler:
    """Augmented clips from a frame cache.

    Exact for one version of NumPy, which keeps its random streams between most versions only.
    """

    def __init__(
        self,
        cache: FrameCache,
        config: DataConfig,
        geometry: ClipGeometry,
        *,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepares sampling; not one frame is read yet.

        Args:
            geometry: Size of the clips; a `num_frames` of 1 gives images.
            batch_size: Clips per step and rank.

        Raises:
            SourceError: No video is long enough, or frames are smaller than the geometry.
        """
        assert 0 <= rank < world_size
        self._cache, self._geometry, self._augmentation = cache, geometry, config.augmentation
        self._seed = seed % 2**63
        self._rank, self._batch_size = rank, batch_size
        self._global_batch = world_size * batch_size
        self._permutations: dict[int, Int64[np.ndarray, " clips"]] = {}
        self._grid = training_grid(cache.index, config, geometry)

    @property
    def clips_per_epoch(self) -> int:
        """Grid positions of all videos, each seen once in an epoch."""
        return len(self._grid)

    def positions_at(self, step: int) -> Int64[np.ndarray, " b"]:
        """The grid positions of this rank's clips in `step`."""
        first = step * self._global_batch + self._rank * self._batch_size
        numbers = np.arange(first, first + self._batch_size)
        epochs, places = np.divmod(numbers, self.clips_per_epoch)
        positions = np.empty_like(numbers)
        for epoch in np.unique(epochs).tolist():
            is_here = epochs == epoch
            positions[is_here] = self._permutation(epoch)[places[is_here]]
        return positions

    def batch_at(self, step: int) -> UInt8[np.ndarray, "b t h w 3"]:
        """This rank's batch of `step`, RGB in [0, 255].

        The clips of all ranks together do not depend on how many ranks there are.
        """
        geometry = self._geometry
        videos, starts = self._grid.locate(self.positions_at(step))
        # All ranks draw the whole step's numbers; each uses its own rows.
        draws = np.random.default_rng((self._seed, 1, step)).random((self._global_batch, NUM_DRAWS))
        first = self._rank * self._batch_size
        views = random_views(
            self._cache.stored_clips(videos, starts),
            draws[first : first + self._batch_size],
            geometry,
            self._grid.hop_frames,
            self._augmentation,
        )
        shape = (geometry.num_frames, geometry.height_px, geometry.width_px)
        return self._cache.read_clips(videos, views, shape)

    def _permutation(self, epoch: int) -> Int64[np.ndarray, " clips"]:
        if epoch not in self._permutations:
            if len(self._permutations) == _KEPT_PERMUTATIONS:
                del self._permutations[min(self._permutations)]
            generator = np.random.default_rng((self._seed, 0, epoch))
            self._permutations[epoch] = generator.permutation(self.clips_per_epoch)
        return self._permutations[epoch]


def training_grid(index: FrameIndex, config: DataConfig, geometry: ClipGeometry) -> ClipGrid:
    """The grid of all training clips.

    Raises:
        SourceError: No video is long enough, or frames are smaller than the clips.
    """
    check_frame_size(index.recipe, geometry)
    grid = ClipGrid(index.num_frames, geometry.num_frames, config.clips)
    if len(grid):
        return grid
    num_videos = len(index.videos) + len(index.unusable)
    raise SourceError(
        f"none of the {num_videos} videos of {', '.join(config.source.uris)} gave a training clip "
        f"of {geometry.num_frames} frames; see the warnings above, or set data.clips.tail=pad and "
        "lower data.clips.min_frames"
    )


def check_frame_size(recipe: FrameRecipe, geometry: ClipGeometry) -> None:
    """Refuses a geometry that stored frames do not cover.

    Raises:
        SourceError: The frames are smaller than the clips.
    """
    if recipe.height_px < geometry.height_px or recipe.width_px < geometry.width_px:
        raise SourceError(
            f"stored frames cover {recipe.height_px}×{recipe.width_px} px, clips of "
            f"{geometry.height_px}×{geometry.width_px} px are asked for; make a larger cache"
        )


def _count_positions(
    num_frames: Int64[np.ndarray, " videos"], clip_frames: int, hop_frames: int, config: ClipConfig
) -> Int64[np.ndarray, " videos"]:
    """Clips of each video, as `pipeline.clips.plan_windows` would cut them."""
    counts = np.maximum((num_frames - clip_frames) // hop_frames + 1, 0)
    covered = np.where(counts > 0, (counts - 1) * hop_frames + clip_frames, 0)
    has_rest = covered < num_frames
    if config.tail == "pad":
        is_enough = num_frames - counts * hop_frames >= min(config.min_frames, clip_frames)
        counts = counts + (has_rest & is_enough)
    elif config.tail == "shift_back":
        counts = counts + (has_rest & (counts > 0))
    return np.where(num_frames >= config.min_frames, counts, 0)
