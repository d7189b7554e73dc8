"""From measures by clip to the numbers of a result."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from pipeline.evaluation.instruments import Instruments
from pipeline.evaluation.parts import Part
from pipeline.evaluation.subjects import Subject
from sweettok.bootstrap import mean_interval
from sweettok.diversity import inception_score
from sweettok.frechet_interval import paired_frechet, unpaired_frechet
from sweettok.metrics import codebook_usage, entropy_bits

BY_CLIP = ("psnr_db", "ssim", "perceptual")


def reconstruction_summary(
    subject: Subject,
    part: Part,
    originals: Part,
    instruments: Instruments,
    *,
    pixels_per_clip: int,
    num_resamples: int,
) -> dict[str, Any]:
    """All numbers of one tokenizer.

    Args:
        subject: The tokenizer.
        part: Its measures of all clips.
        originals: What the networks see in the same clips.
        instruments: What looked.
        pixels_per_clip: Frames × height × width.
        num_resamples: Of the bootstrap of a Fréchet distance.
    """
    summary: dict[str, Any] = {"name": subject.label, "facts": subject.facts}
    summary |= {
        name: dataclasses.asdict(mean_interval(part.measures[name].double().numpy(), part.videos))
        for name in BY_CLIP
        if name in part.measures
    }
    summary["frechet"] = {
        network.metric: dataclasses.asdict(
            paired_frechet(
                originals.measures[f"features/{number}"],
                part.measures[f"features/{number}"],
                part.videos,
                num_resamples=num_resamples,
            )
        )
        for number, network in enumerate(instruments.networks)
    }
    summary |= _rate(part, subject, pixels_per_clip)
    return summary | _use(part, subject)


def _rate(part: Part, subject: Subject, pixels_per_clip: int) -> dict[str, Any]:
    bits = part.measures["bits"]
    mean = float(bits.mean())
    if math.isnan(mean):
        return {"bits_per_clip": None, "bits_per_pixel": None}
    found: dict[str, Any] = {"bits_per_clip": mean, "bits_per_pixel": mean / pixels_per_clip}
    if "packet_bits" in part.measures:
        budget, tolerance = subject.facts["budget_bits_per_clip"], subject.facts["tolerance"]
        matched = (bits - budget).abs() <= tolerance * budget
        found |= {
            "packet_bits_per_clip": float(part.measures["packet_bits"].mean()),
            "matched_share": float(matched.double().mean()),
            "above_budget_share": float((bits > budget * (1 + tolerance)).double().mean()),
        }
    return found


def _use(part: Part, subject: Subject) -> dict[str, Any]:
    """Use of each codebook, and the bits that the ids would have at their own frequencies."""
    codebooks = {}
    entropy_bits_per_clip = 0.0
    for name, num_codes in subject.tokenizer.codebook_sizes.items():
        ids = part.measures[f"ids/{name}"]
        statistics = codebook_usage(ids, num_codes)
        entropy = entropy_bits(statistics.counts)
        entropy_bits_per_clip += entropy * ids.shape[1]
        codebooks[name] = {
            "num_codes": num_codes,
            "num_ids": ids.numel(),
            "usage": statistics.usage,
            "perplexity": statistics.perplexity,
            "entropy_bits_per_id": entropy,
        }
    if not codebooks:
        return {}
    return {"codebooks": codebooks, "entropy_bits_per_clip": entropy_bits_per_clip}


def generated_summary(
    name: str,
    part: Part,
    real: Part,
    instruments: Instruments,
    *,
    num_resamples: int,
    num_parts: int,
) -> dict[str, Any]:
    """All numbers of one set of generated clips, by the networks."""
    return {
        "name": name,
        "num_clips": len(part.videos),
        "left_out": part.left_out,
        "frechet": {
            network.metric: dataclasses.asdict(
                unpaired_frechet(
                    real.measures[f"features/{number}"],
                    part.measures[f"features/{number}"],
                    real.videos,
                    part.videos,
                    num_resamples=num_resamples,
                )
            )
            for number, network in enumerate(instruments.networks)
        },
        "inception_score": inception_scores(part, instruments, num_parts),
    }


def inception_scores(part: Part, instruments: Instruments, num_parts: int) -> dict[str, Any]:
    """The inception score of clips by every network, over at most `num_parts` parts."""
    parts = min(num_parts, len(part.videos))
    # Files of a folder often come sorted by class: every part should have some of each.
    order = torch.randperm(len(part.videos), generator=torch.Generator().manual_seed(0))
    return {
        network.metric: dataclasses.asdict(
            inception_score(part.measures[f"probabilities/{number}"][order], parts)
        )
        for number, network in enumerate(instruments.networks)
    }


def warnings_of(rows: list[dict[str, Any]]) -> list[str]:
    """Every reason not to trust a number, each once, with what it is about."""
    found = dict.fromkeys(
        f"{metric}: {estimate['warning']}"
        for row in rows
        for metric, estimate in row["frechet"].items()
        if estimate["warning"]
    )
    for row in rows:
        above = row.get("above_budget_share")
        if above:
            found[
                f"{row['name']}: {above:.0%} of the clips need more than the budget even at the "
                "smallest size and the worst quality that were tried"
            ] = None
    return list(found)
