"""All measures of one way to give clips back: per clip, and their means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.motion_network import MotionReading, TrainedMotionNetwork
from sweettok.frechet import FeatureStatistics, frechet_distance, has_enough_vectors
from sweettok.image_quality import ssim
from sweettok.losses.perceptual import PerceptualDistance
from sweettok.metrics import psnr_db
from sweettok.patches import pixels_to_video

BATCH_SIZE = 10
# What an exact copy counts as, so that means stay finite.
MAX_PSNR_DB = 99.0

Video = Float[Tensor, "b c t h w"]

_PIXEL_RANGE = 2.0


@dataclass(frozen=True, eq=False)
class Instruments:
    """What looks at reconstructions.

    Attributes:
        network: The motion network; None for clips without motions to name.
        perceptual: The perceptual distance; None without the weights of its network.
        max_perceptual_clips: On how many clips of each part it is measured.
    """

    network: TrainedMotionNetwork | None
    perceptual: PerceptualDistance | None
    max_perceptual_clips: int


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures on one part of the held-out clips.

    Attributes:
        summary: Plain numbers by name, means over clips: "num_clips", "num_videos", "psnr_db",
            "ssim", "frame_psnr_db" (of each latent frame), "perceptual", "frechet", "recognised";
            None where an instrument is missing or there are too few clips.
        by_clip: float32 [clips, …] by the same names; "perceptual" of the chosen clips only.
    """

    summary: dict[str, Any]
    by_clip: dict[str, Tensor]

    def including(self, by_clip: dict[str, Tensor], **summary: Any) -> Measures:
        """With further measures; the means of those by clip come by themselves."""
        numbers = {name: values.float() for name, values in by_clip.items()}
        means = {name: float(values.mean()) for name, values in numbers.items()}
        return Measures(self.summary | means | summary, self.by_clip | numbers)


@torch.no_grad()
def measure(
    reconstruct: Callable[[Video], Video], clips: ClipSet, instruments: Instruments
) -> Measures:
    """Measures what `reconstruct` makes of clips in [-1, 1]."""
    by_clip: dict[str, list[Tensor]] = {}
    network, perceptual = instruments.network, instruments.perceptual
    originals, copies = (MotionReading(network) if network else None for _ in range(2))
    chosen = set(clips.chosen_positions(instruments.max_perceptual_clips))
    for number, pixels in enumerate(clips.batches(BATCH_SIZE)):
        video = pixels_to_video(pixels)
        shown = reconstruct(video).clamp(-1, 1)
        found = {
            "psnr_db": psnr_db(video, shown, _PIXEL_RANGE).clamp_max(MAX_PSNR_DB),
            "frame_psnr_db": latent_frame_psnr_db(video, shown, clips.geometry.tube_frames),
            "ssim": ssim(video, shown, _PIXEL_RANGE),
        }
        rows = [row for row in range(len(video)) if number * BATCH_SIZE + row in chosen]
        if perceptual is not None and rows:
            found["perceptual"] = perceptual(video[rows], shown[rows])
        if originals is not None and copies is not None:
            originals.add(video)
            copies.add(shown)
        for name, values in found.items():
            by_clip.setdefault(name, []).append(values.float())
    joined = {name: torch.cat(values) for name, values in by_clip.items()}
    if copies is not None and clips.labels:
        joined["recognised"] = (copies.named == clips.label_tensor).float()
    frechet = None
    if originals is not None and copies is not None:
        frechet = features_distance(originals.features, copies.features)
    return Measures(_summary(clips, joined, frechet), joined)


def latent_frame_psnr_db(
    video: Video, shown: Video, tube_frames: int
) -> Float[Tensor, "b latent_frames"]:
    """PSNR of the first frame and of each tube of frames, at most `MAX_PSNR_DB`."""
    ends = [0, *range(1, video.shape[2] + 1, tube_frames)]
    parts = [
        psnr_db(video[:, :, first:last], shown[:, :, first:last], _PIXEL_RANGE)
        for first, last in pairwise(ends)
    ]
    return torch.stack(parts, dim=1).clamp_max(MAX_PSNR_DB)


def features_distance(first: Float[Tensor, "n f"], second: Float[Tensor, "m f"]) -> float | None:
    """Fréchet distance of two sets of features; None if one is too small for a covariance."""
    if not has_enough_vectors(min(len(first), len(second)), first.shape[1]):
        return None
    return frechet_distance(FeatureStatistics.of(first), FeatureStatistics.of(second))


def _summary(clips: ClipSet, by_clip: dict[str, Tensor], frechet: float | None) -> dict[str, Any]:
    def mean(name: str) -> float | None:
        return float(by_clip[name].mean()) if name in by_clip else None

    return {
        "num_clips": len(clips),
        "num_videos": clips.num_videos,
        "psnr_db": mean("psnr_db"),
        "ssim": mean("ssim"),
        "perceptual": mean("perceptual"),
        "frechet": frechet,
        "recognised": mean("recognised"),
        "frame_psnr_db": by_clip["frame_psnr_db"].mean(dim=0).tolist(),
    }
