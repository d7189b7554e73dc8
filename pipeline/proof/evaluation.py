"""All measures of one trained tokenizer on clips that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.motion_network import MotionReading, TrainedMotionNetwork
from pipeline.proof.probe import ProbeResult, probe_tokens
from sweettok.baselines import codebook_choices
from sweettok.baselines.variants import AnyTokenizer
from sweettok.frechet import frechet_distance
from sweettok.image_quality import ssim
from sweettok.losses.perceptual import PerceptualDistance
from sweettok.metrics import codebook_usage, psnr_db
from sweettok.model import SweetTok
from sweettok.patches import pixels_to_video
from sweettok.tokens import Tokens

_PIXEL_RANGE = 2.0
_BATCH_SIZE = 10
# A covariance of d features needs more clips than features by a margin to mean anything.
_CLIPS_PER_FEATURE = 2


@dataclass(frozen=True)
class Measures:
    """One tokenizer on one part of the held-out clips; means over clips.

    Attributes:
        num_clips: How many clips.
        psnr_db, ssim: Fidelity.
        perceptual: VGG distance on some of the clips; None without the network's weights.
        frechet: Fréchet distance on the motion network between originals and reconstructions; None
            without the network or with too few clips for its features.
        recognised: Share of reconstructions whose motion the motion network names rightly; None
            without labels.
        usage: Share of the codes that the clips use, by codebook.
        perplexity: 2 to the entropy of the chosen codes, by codebook.
    """

    num_clips: int
    psnr_db: float
    ssim: float
    perceptual: float | None
    frechet: float | None
    recognised: float | None
    usage: dict[str, float]
    perplexity: dict[str, float]


@torch.no_grad()
def measure(
    model: AnyTokenizer,
    clips: ClipSet,
    *,
    network: TrainedMotionNetwork | None,
    perceptual: PerceptualDistance | None,
    max_perceptual_clips: int,
) -> tuple[Measures, Tokens]:
    """Measures `model`, in inference mode, on `clips`; returns their tokens as well."""
    psnrs, similarities, tokens = [], [], []
    originals, reconstructions = (MotionReading(network) if network else None for _ in range(2))
    for pixels in clips.batches(_BATCH_SIZE):
        video = pixels_to_video(pixels)
        output = model(video)
        shown = output.reconstruction.clamp(-1, 1)
        psnrs.append(psnr_db(video, shown, _PIXEL_RANGE))
        similarities.append(ssim(video, shown, _PIXEL_RANGE))
        tokens.append(output.tokens)
        if originals is not None and reconstructions is not None:
            originals.add(video)
            reconstructions.add(shown)
    joined = _joined(tokens)
    statistics = {
        name: codebook_usage(ids, size)
        for name, (ids, size) in codebook_choices(model, joined).items()
    }
    measures = Measures(
        num_clips=len(clips),
        psnr_db=float(torch.cat(psnrs).mean()),
        ssim=float(torch.cat(similarities).mean()),
        perceptual=_perceptual(model, clips.evenly_chosen(max_perceptual_clips), perceptual),
        frechet=_frechet(originals, reconstructions),
        recognised=_recognised(reconstructions, clips),
        usage={name: found.usage for name, found in statistics.items()},
        perplexity={name: found.perplexity for name, found in statistics.items()},
    )
    return measures, joined


@torch.no_grad()
def probe(
    model: AnyTokenizer, training: ClipSet, held_out: ClipSet, held_out_tokens: Tokens
) -> ProbeResult:
    """What linear readers of the tokens know of the labels, fitted to `training`."""
    tokens = _joined(
        [model.encode(pixels_to_video(pixels)) for pixels in training.batches(_BATCH_SIZE)]
    )
    return probe_tokens(
        tokens,
        training.label_tensor,
        held_out_tokens,
        held_out.label_tensor,
        codes=_codes_of(model),
    )


def _codes_of(model: AnyTokenizer) -> tuple[Tensor, Tensor]:
    if isinstance(model, SweetTok):
        quantizers = (model.spatial_quantizer, model.temporal_quantizer)
    else:
        quantizers = model.quantizers()
    spatial, temporal = (quantizer.codebook.current_codes() for quantizer in quantizers)
    return spatial, temporal


def _joined(tokens: Sequence[Tokens]) -> Tokens:
    return Tokens(
        torch.cat([part.spatial for part in tokens]), torch.cat([part.temporal for part in tokens])
    )


def _perceptual(
    model: AnyTokenizer, clips: ClipSet, distance: PerceptualDistance | None
) -> float | None:
    if distance is None:
        return None
    found = []
    for pixels in clips.batches(_BATCH_SIZE):
        video = pixels_to_video(pixels)
        found.append(distance(video, model(video).reconstruction.clamp(-1, 1)))
    return float(torch.cat(found).mean())


def _frechet(
    originals: MotionReading | None, reconstructions: MotionReading | None
) -> float | None:
    if originals is None or reconstructions is None:
        return None
    statistics = originals.statistics
    if statistics.num_vectors < _CLIPS_PER_FEATURE * statistics.num_features:
        return None
    return frechet_distance(statistics, reconstructions.statistics)


def _recognised(reading: MotionReading | None, clips: ClipSet) -> float | None:
    if reading is None or not clips.labels:
        return None
    return float((reading.named == clips.label_tensor).double().mean())
