"""Frame caches made in memory whose pixels tell where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.preprocessing import PreprocessConfig
from pipeline.records import WorkUnit
from pipeline.training.data_config import DataConfig
from pipeline.training.frame_cache import FrameCache
from pipeline.training.frame_cache_writer import FrameCacheWriter
from pipeline.training.frame_recipe import FrameRecipe

FRAMES_PER_VIDEO = 64  # at most, so that a byte tells video and frame


def traced_frames(video: int, num_frames: int, height_px: int, width_px: int) -> np.ndarray:
    """Frames whose pixels are (row, column, 64 · video + frame)."""
    frames = np.empty((num_frames, height_px, width_px, 3), np.uint8)
    frames[..., 0] = np.arange(height_px)[:, None]
    frames[..., 1] = np.arange(width_px)
    frames[..., 2] = video * FRAMES_PER_VIDEO + np.arange(num_frames)[:, None, None]
    return frames


def unit(number: int) -> WorkUnit:
    return WorkUnit(f"{number:032d}", f"file:///{number}.mp4", "f", 1, {"label": str(number)})


def recipe(height_px: int, width_px: int) -> FrameRecipe:
    return FrameRecipe(
        height_px=height_px,
        width_px=width_px,
        keep_aspect=True,
        target_fps=None,
        frame_stride=1,
        preprocess=PreprocessConfig(),
        decoders=("pyav",),
    )


def traced_cache(
    directory: Path, lengths: Sequence[int], *, height_px: int = 12, width_px: int = 20
) -> FrameCache:
    """A cache of one video per length; video i is `traced_frames(i, …)`, 2·i pixels wider."""
    directory.mkdir(parents=True, exist_ok=True)
    writer = FrameCacheWriter(directory, recipe(height_px, width_px))
    for number, length in enumerate(lengths):
        frames = traced_frames(number, length, height_px, width_px + 2 * number)
        writer.add_video(unit(number), frames, fps=25)
    writer.close()
    return FrameCache.open(directory)


def data_config(**changes: object) -> DataConfig:
    return DataConfig.from_mapping({"source": {"uris": ["none"]}} | changes)
