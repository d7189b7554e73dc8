"""How good the tokenizer is on clips that it is not trained on, as clips and as single images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pydantic
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.training.parallel import sum_over_workers
from pipeline.training.usage import UsageMeter, usage_scalars
from sweettok.image_quality import ssim
from sweettok.losses.perceptual import PerceptualDistance
from sweettok.metrics import CodebookStatistics, psnr_db
from sweettok.model import SweetTok
from sweettok.patches import pixels_to_video, video_to_pixels
from sweettok.strict_config import StrictConfig

Metric = Literal["psnr_db", "ssim", "perceptual", "image_psnr_db"]
_LOWER_IS_BETTER = ("perceptual",)
_DATA_RANGE = 2.0


class EvaluationConfig(StrictConfig):
    """When and how the held-out clips of `data.validation` are looked at.

    Attributes:
        every_steps: Optimiser steps between evaluations; there is always one at the end.
        batch_size: Clips of one forward pass.
        best_metric: By which the best weights so far are kept: "psnr_db", "ssim", "perceptual"
            (distance; needs a network) or "image_psnr_db" (single frames; needs an image phase).
        shown_clips: Clips whose reconstructions go to TensorBoard.
    """

    every_steps: int = pydantic.Field(default=1000, ge=1)
    batch_size: int = pydantic.Field(default=8, ge=1)
    best_metric: Metric = "psnr_db"
    shown_clips: int = pydantic.Field(default=4, ge=0)


@dataclass(frozen=True)
class EvaluationResult:
    """Means over all held-out clips of all workers.

    Attributes:
        num_clips: How many there were.
        psnr_db, ssim: Of whole clips.
        perceptual: Perceptual distance; None without a network.
        image_psnr_db: Of the first frames alone, through image mode; None if it is not trained.
        spatial, temporal: Use of the codebooks by the clips.
    """

    num_clips: int
    psnr_db: float
    ssim: float
    perceptual: float | None
    image_psnr_db: float | None
    spatial: CodebookStatistics
    temporal: CodebookStatistics

    def scalars(self) -> dict[str, float]:
        """All numbers by name."""
        measured = {
            "psnr_db": self.psnr_db,
            "ssim": self.ssim,
            "perceptual": self.perceptual,
            "image_psnr_db": self.image_psnr_db,
        }
        return (
            {name: value for name, value in measured.items() if value is not None}
            | usage_scalars(self.spatial, "spatial")
            | usage_scalars(self.temporal, "temporal")
        )

    def score(self, metric: Metric) -> float:
        """The value of `metric`, turned so that more is better."""
        value = self.scalars()[metric]
        return -value if metric in _LOWER_IS_BETTER else value

    def describe(self) -> str:
        """For a log line."""
        parts = [
            f"{self.num_clips} clips",
            f"PSNR {self.psnr_db:.2f} dB",
            f"SSIM {self.ssim:.4f}",
        ]
        if self.perceptual is not None:
            parts.append(f"perceptual distance {self.perceptual:.4f}")
        if self.image_psnr_db is not None:
            parts.append(f"images {self.image_psnr_db:.2f} dB")
        parts.append(f"words used {self.spatial.usage:.0%} and {self.temporal.usage:.0%}")
        return ", ".join(parts)


@torch.no_grad()
def evaluate(
    model: SweetTok,
    batches: Iterable[UInt8[Tensor, "b t h w c"]],
    *,
    device: torch.device,
    perceptual: PerceptualDistance | None = None,
    with_images: bool = False,
) -> EvaluationResult:
    """Reconstructs this worker's held-out clips; all workers call together, also without clips.

    Args:
        model: In inference mode, whole (not sharded).
        batches: This worker's part of the clips.
        device: Where the model is.
        perceptual: Network of the perceptual distance.
        with_images: Put the first frames through image mode as well.
    """
    meter = UsageMeter(model.config.num_spatial_words, model.config.num_temporal_words, device)
    sums = torch.zeros(5, dtype=torch.float64, device=device)
    for pixels in batches:
        video = pixels_to_video(pixels.to(device))
        output = model(video)
        meter.add(output.tokens)
        reconstruction = output.reconstruction.clamp(-1, 1)
        sums[0] += len(video)
        sums[1] += psnr_db(video, reconstruction, _DATA_RANGE).double().sum()
        sums[2] += ssim(video, reconstruction, _DATA_RANGE).double().sum()
        if perceptual is not None:
            sums[3] += perceptual(video, reconstruction).double().sum()
        if with_images:
            images = video[:, :, :1]
            restored = model(images).reconstruction.clamp(-1, 1)
            sums[4] += psnr_db(images, restored, _DATA_RANGE).double().sum()
    num_clips, *means = _over_workers(sums)
    spatial, temporal = meter.read()
    return EvaluationResult(
        num_clips=round(num_clips),
        psnr_db=means[0],
        ssim=means[1],
        perceptual=None if perceptual is None else means[2],
        image_psnr_db=means[3] if with_images else None,
        spatial=spatial,
        temporal=temporal,
    )


@torch.no_grad()
def reconstruction_pictures(
    model: SweetTok, clips: UInt8[Tensor, "b t h w c"], device: torch.device
) -> UInt8[Tensor, "b rows columns c"]:
    """First, middle and last frame of each clip, the original above its reconstruction."""
    restored = video_to_pixels(model(pixels_to_video(clips.to(device))).reconstruction).cpu()
    shown = (0, clips.shape[1] // 2, clips.shape[1] - 1)
    rows = [
        torch.cat([frames[:, index] for index in shown], dim=2)
        for frames in (clips.cpu(), restored)
    ]
    return torch.cat(rows, dim=1)


def _over_workers(sums: Tensor) -> list[float]:
    """Number of clips and the means over them."""
    total, *values = sum_over_workers(sums).tolist()
    return [total, *(value / max(total, 1.0) for value in values)]
