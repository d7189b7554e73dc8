"""Trains the motion network on the motion corpus's training part, once per recipe."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.motion_network import (
    NUM_CLASSES,
    MotionNetwork,
    MotionNetworkConfig,
    save_motion_network,
)
from pipeline.proof.one_thread import one_thread
from pipeline.records import stable_id
from pipeline.training.frame_cache import FrameCache
from sweettok.patches import pixels_to_video

logger = logging.getLogger(__name__)

_LOG_EVERY_STEPS = 200
_EVALUATION_BATCH = 25
_SHIFT_PX = 4
_FORMAT = 1  # of the training itself: another one gives other weights from the same settings


def ensure_motion_network(
    config: MotionNetworkConfig, training: ClipSet, held_out: ClipSet, directory: Path
) -> Path:
    """Trains the network on whole training videos, or finds it trained; returns its file.

    Args:
        training: One labelled clip of every training video; other moments are taken at random.
        held_out: Labelled clips to measure it on.
    """
    recipe = _recipe(config, training, held_out)
    path = directory / f"motion_network-{recipe}.safetensors"
    if path.exists():
        return path
    started_s = time.monotonic()
    network = train_motion_network(config, training)
    accuracy = _accuracy(network, held_out)
    logger.info(
        "motion network: %.1f %% of %d held-out clips named rightly (chance %.1f %%), %.0f s",
        100 * accuracy,
        len(held_out),
        100 / NUM_CLASSES,
        time.monotonic() - started_s,
    )
    save_motion_network(path, network, config, accuracy, recipe)
    return path


def train_motion_network(config: MotionNetworkConfig, training: ClipSet) -> MotionNetwork:
    """Trains on random moments of the labelled videos, on one thread."""
    with one_thread(config.seed):
        network = MotionNetwork(config).train()
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=0.05
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=config.num_steps + 1, pct_start=0.15
        )
        seen = _RandomMoments(training, config)
        for step in range(config.num_steps):
            pixels, labels = seen.batch_at(step)
            scores = network(_varied(pixels_to_video(pixels)))
            loss = F.cross_entropy(scores, labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if (step + 1) % _LOG_EVERY_STEPS == 0:
                logger.info(
                    "motion network, step %d of %d: loss %.3f",
                    step + 1,
                    config.num_steps,
                    loss.item(),
                )
    return network.eval()


class _RandomMoments:
    """Batches of random moments of the labelled videos, a pure function of seed and step."""

    def __init__(self, training: ClipSet, config: MotionNetworkConfig) -> None:
        self._training, self._config = training, config
        self._num_frames = FrameCache.open(training.cache).index.num_frames

    def batch_at(self, step: int) -> tuple[UInt8[Tensor, "b t h w c"], Int[Tensor, " b"]]:
        generator = np.random.default_rng((self._config.seed, step))
        rows = generator.integers(len(self._training), size=self._config.batch_size)
        videos = [self._training.videos[row] for row in rows]
        last = self._num_frames[videos] - self._training.geometry.num_frames
        starts = generator.integers(last + 1)
        labels = tuple(self._training.labels[row] for row in rows)
        moments = dataclasses.replace(
            self._training, videos=tuple(videos), starts=tuple(starts.tolist()), labels=labels
        )
        return moments.read(slice(None)), moments.label_tensor


def _varied(video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
    """Mirrored, shifted, in other colours and other light: none of it changes the motion."""
    batch = len(video)
    mirrored = (torch.rand(batch) < 0.5)[:, None, None, None, None]
    video = torch.where(mirrored, video.flip(-1), video)
    down, right = torch.randint(-_SHIFT_PX, _SHIFT_PX + 1, (2,)).tolist()
    video = torch.roll(video, (down, right), dims=(3, 4))[:, torch.randperm(3)]
    contrast = 0.7 + 0.6 * torch.rand(batch, 1, 1, 1, 1)
    return video * contrast + 0.4 * (torch.rand(batch, 3, 1, 1, 1) - 0.5)


@torch.no_grad()
def _accuracy(network: MotionNetwork, clips: ClipSet) -> float:
    named = [
        network(pixels_to_video(pixels)).argmax(dim=1)
        for pixels in clips.batches(_EVALUATION_BATCH)
    ]
    return float((torch.cat(named) == clips.label_tensor).double().mean())


def _recipe(config: MotionNetworkConfig, training: ClipSet, held_out: ClipSet) -> str:
    pixels = [FrameCache.open(clips.cache).index.fingerprint for clips in (training, held_out)]
    return stable_id("motion network", _FORMAT, config.to_yaml(), *pixels)[:16]
