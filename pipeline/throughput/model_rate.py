"""How much arithmetic a clip takes, and how fast the encoder's device does arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.encode_config import EncodeConfig
from sweettok import SweetTok
from sweettok.benchmarking.measurement import count_flops, matrix_product, time_alternating

_NUM_REPEATS = 5


@dataclass(frozen=True)
class ModelRate:
    """What turns clips per second into a share of the device's arithmetic.

    Attributes:
        device: What encodes, in words.
        flops_per_clip: Floating-point operations of encoding a clip: matrix products and attention.
        matrix_flops_per_s: Rate that the device reaches on large matrix products of the encoder's
            precision, measured here: what a share of it is of is no data sheet's promise.
    """

    device: str
    flops_per_clip: float
    matrix_flops_per_s: float


def measure_model_rate(tokenizer: str | Path, config: EncodeConfig, *, use_gpu: bool) -> ModelRate:
    """Counts one clip's operations and times matrix products on the device that encodes."""
    device = torch.device("cuda" if use_gpu else "cpu")
    model = SweetTok.from_pretrained(tokenizer).to(device)
    geometry = model.config.geometry
    video = torch.zeros(
        1, 3, geometry.num_frames, geometry.height_px, geometry.width_px, device=device
    )
    flops_per_clip = count_flops(lambda: model.encode(video))
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    product, product_flops = matrix_product(device, dtype)
    timing = time_alternating({"product": product}, num_repeats=_NUM_REPEATS, device=device)
    return ModelRate(
        torch.cuda.get_device_name(device) if use_gpu else "CPU",
        flops_per_clip,
        product_flops / timing["product"].median_wall_s,
    )
