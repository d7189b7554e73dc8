"""Clips, results and settings to try the proof of the method with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.proof.clip_sets import ClipSet
from pipeline.records import WorkUnit
from pipeline.training.data_config import DataConfig
from pipeline.training.frame_cache_writer import FrameCacheWriter
from pipeline.training.frame_recipe import FrameRecipe
from sweettok import ClipGeometry


def stored_clips(
    directory: Path, videos: list[np.ndarray], geometry: ClipGeometry, labels: tuple[int, ...] = ()
) -> ClipSet:
    """The first clip of each video (uint8 [t, h, w, c]), from a frame cache made of them."""
    recipe = FrameRecipe.for_evaluation(DataConfig(source={"uris": ["none"]}), geometry)
    directory.mkdir()
    writer = FrameCacheWriter(directory, recipe)
    for number, frames in enumerate(videos):
        writer.add_video(WorkUnit(f"{number:02d}", f"{number:02d}", "", 0), frames, 12.0)
    writer.close()
    numbers = tuple(range(len(videos)))
    return ClipSet(str(directory), geometry, numbers, (0,) * len(videos), labels)


def moving_squares(directory: Path, geometry: ClipGeometry, seed: int) -> ClipSet:
    """Squares that move sideways (0) or down (1): single frames do not tell which."""
    generator = np.random.default_rng(seed)
    videos = []
    for number in range(24):
        frames = np.full((12, 32, 32, 3), generator.integers(0, 120), np.uint8)
        for index in range(12):
            left, top = 2 * index, 4 + number % 16
            if number % 2:
                left, top = top, left
            frames[index, top : top + 8, left : left + 8] = 200
        videos.append(frames)
    return stored_clips(directory, videos, geometry, tuple(number % 2 for number in range(24)))


def result_of(row: str, seed: int | None, **changes: Any) -> dict[str, Any]:
    """A result as a run writes it, or an anchor (no seed)."""
    part: dict[str, Any] = {
        "num_clips": 33,
        "num_videos": 7,
        "psnr_db": 20.0 + (seed or 0),
        "ssim": 0.5,
        "perceptual": None,
        "frechet": None,
        "recognised": None,
        "frame_psnr_db": [30.0 + (seed or 0), 20.0],
    }
    if seed is None:
        return {"corpus": "natural", "row": row, "seed": None, "parts": {"near": part | changes}}
    used = {
        "ids_per_code": {"spatial": 3.02, "temporal": 3.0},
        "usage": {"spatial": 0.25, "temporal": 0.75},
        "perplexity": {"spatial": 100.0, "temporal": 300.0},
    }
    return {
        "corpus": "natural",
        "row": row,
        "seed": seed,
        "num_parameters": 1234567,
        "num_live_parameters": 1230000,
        "gflop_per_clip": 0.5,
        "training_cpu_s": 10.0 + 2 * seed,
        "bits_per_clip": 1280.0,
        "parts": {"near": part | used | changes},
    }
