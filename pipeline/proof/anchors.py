"""Rows that nothing is trained for: what a still picture, or a few coarse pixels, would score.

A trained row that is not above the still first frame has learned nothing of motion, whatever its
PSNR; coarse pixels say how much of a class shows without any detail; the originals give what the
motion network makes of them, and how far apart two halves of them are (the Fréchet distance that
nothing can be expected to fall below).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.corpora import PreparedCorpus
from pipeline.proof.evaluation import (
    BATCH_SIZE,
    Measures,
    Video,
    features_distance,
    measure,
)
from pipeline.proof.motion_network import MotionReading, TrainedMotionNetwork
from pipeline.proof.one_thread import one_thread
from pipeline.proof.probe import ridge_scores
from pipeline.proof.run_files import read_result, write_measured
from pipeline.proof.run_spec import MeasuringSpec
from sweettok.patches import pixels_to_video

STILL_ROW = "still first frame"
COARSE_ROW = "8-px means, bilinear"
ORIGINALS_ROW = "the originals"
COARSE_PX = 8
_NUM_SPLITS = 10


def still_first_frame(video: Video) -> Video:
    """The first frame, all the time."""
    return video[:, :, :1].expand_as(video)


def mean_picture(video: Video) -> Video:
    """The mean of all frames, all the time."""
    return video.mean(dim=2, keepdim=True).expand_as(video)


def coarse_picture(video: Video) -> Video:
    """Means over squares of 8 px, enlarged again."""
    means = rearrange(coarse_means(video), "b c t y x -> (b t) c y x")
    enlarged = F.interpolate(means, size=video.shape[3:], mode="bilinear", align_corners=False)
    return rearrange(enlarged, "(b t) c h w -> b c t h w", b=len(video))


def coarse_means(video: Video) -> Float[Tensor, "b c t y x"]:
    """Means over squares of 8 px."""
    frames = rearrange(video, "b c t h w -> (b t) c h w")
    means = F.avg_pool2d(frames, COARSE_PX, ceil_mode=True)
    return rearrange(means, "(b t) c y x -> b c t y x", b=len(video))


STILL_PICTURES: dict[str, Callable[[Video], Video]] = {
    STILL_ROW: still_first_frame,
    "mean picture": mean_picture,
}


def anchor_results(
    corpus: PreparedCorpus, measuring: MeasuringSpec, output: Path
) -> list[tuple[dict[str, Any], Path]]:
    """Results of all anchors on a corpus and their directories; measured once per recipe."""
    rows = [*STILL_PICTURES, COARSE_ROW, ORIGINALS_ROW]
    recipe = measuring.recipe(corpus)
    found = []
    for row in rows:
        slug = "".join(letter if letter.isalnum() else "_" for letter in row)
        directory = output / f"{corpus.name}-{slug}-{recipe[:8]}"
        if read_result(directory, recipe) is None:
            _measure_anchor(row, corpus, measuring, directory)
        result = read_result(directory, recipe)
        if result is not None:
            found.append((result, directory))
    return found


def _measure_anchor(
    row: str, corpus: PreparedCorpus, measuring: MeasuringSpec, directory: Path
) -> None:
    with one_thread(0):
        instruments = measuring.instruments()
        parts = {}
        for name, clips in corpus.held_out.items():
            if row == ORIGINALS_ROW:
                parts[name] = _of_originals(clips, instruments.network)
                continue
            parts[name] = measure(STILL_PICTURES.get(row, coarse_picture), clips, instruments)
            if row == COARSE_ROW and corpus.labelled_training is not None:
                fitted_to = corpus.labelled_training.evenly_chosen(measuring.max_probe_clips)
                parts[name] = _with_pixel_probe(parts[name], fitted_to, clips)
    result = {
        "corpus": corpus.name,
        "row": row,
        "seed": None,
        "measuring_recipe": measuring.recipe(corpus),
    }
    write_measured(directory, result, parts, {})


def _with_pixel_probe(measures: Measures, training: ClipSet, held_out: ClipSet) -> Measures:
    """What a linear reader knows from the coarse grey picture and its changes."""
    scores = ridge_scores(
        coarse_features(training), training.label_tensor, coarse_features(held_out)
    )
    return measures.including({"probe_places": scores.argmax(dim=1) == held_out.label_tensor})


def coarse_features(clips: ClipSet) -> Float[Tensor, "n f"]:
    """Grey means over squares of 8 px, and how much each changes from frame to frame."""
    found = []
    for pixels in clips.batches(BATCH_SIZE):
        grey = coarse_means(pixels_to_video(pixels)).mean(dim=1)
        found.append(torch.cat([grey, grey.diff(dim=1).abs()], dim=1).flatten(1))
    return torch.cat(found)


def _of_originals(clips: ClipSet, network: TrainedMotionNetwork | None) -> Measures:
    """What the motion network makes of the originals; nothing else is to be said of them."""
    measures = Measures({"num_clips": len(clips), "num_videos": clips.num_videos}, {})
    if network is None:
        return measures
    reading = MotionReading(network)
    for pixels in clips.batches(BATCH_SIZE):
        reading.add(pixels_to_video(pixels))
    by_clip = {}
    if clips.labels:
        by_clip["recognised"] = (reading.named == clips.label_tensor).float()
    floor = frechet_floor(reading.features, clips.videos, clips.labels)
    return measures.including(by_clip, frechet=floor)


def frechet_floor(
    features: Float[Tensor, "n f"], videos: tuple[int, ...], labels: tuple[int, ...]
) -> float | None:
    """Fréchet distance between halves of the videos, mean over random halves; None if too few.

    Both halves have equally many videos of each label, where there are labels.
    """
    names, first_clips = np.unique(videos, return_index=True)
    of_video = np.array(labels)[first_clips] if labels else np.zeros(len(names), np.int64)
    of_clip = torch.tensor(videos)
    found = []
    for split in range(_NUM_SPLITS):
        shuffled = np.random.default_rng(split).random(len(names))
        half = names[np.lexsort((shuffled, of_video))[::2]]
        is_first = torch.isin(of_clip, torch.from_numpy(half))
        distance = features_distance(features[is_first], features[~is_first])
        if distance is None:
            return None
        found.append(distance)
    return float(np.mean(found))
