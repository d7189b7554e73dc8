"""Our encoder over batch sizes and precisions of one device: speed, share of its rate, ids changed.

Made for a GPU; on a CPU the same code runs float32, where the device has no other fast precision.
Every combination is compiled afresh: shapes are static, and the compiler keeps no more than eight
graphs of one function.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pydantic
import torch
from torch import Tensor

from sweettok.benchmarking.measurement import count_flops, matrix_product, time_alternating
from sweettok.benchmarking.restatement import GraphConfig
from sweettok.benchmarking.subjects import random_lexicon, random_video
from sweettok.config import SweetTokConfig
from sweettok.errors import ConfigError
from sweettok.model import SweetTok
from sweettok.strict_config import StrictConfig
from sweettok.tokens import Tokens

Precision = Literal["fp32", "tf32", "bf16"]


class SweepConfig(StrictConfig):
    """What is swept.

    Attributes:
        device: "cuda", "cpu", or "auto": the GPU where there is one.
        batch_sizes: Clips per call.
        precisions: float32, float32 with TensorFloat-32 products, bfloat16 autocast.
        compiler: Backend of `torch.compile(fullgraph=True)`, null runs uncompiled. Only "inductor"
            makes code for the device.
        num_repeats: Timed calls of each combination; medians count.
        num_warmups: Untimed calls before them.
        matrix_edge: Edge of the square matrix product that stands for the device's rate; null
            takes one that reaches it.
    """

    device: Literal["auto", "cuda", "cpu"] = "auto"
    batch_sizes: tuple[pydantic.PositiveInt, ...] = (1, 2, 4, 8, 16, 32, 64)
    precisions: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
    compiler: Literal["inductor", "aot_eager", "eager"] | None = "inductor"
    num_repeats: int = pydantic.Field(default=10, ge=1)
    num_warmups: int = pydantic.Field(default=3, ge=1)
    matrix_edge: int | None = pydantic.Field(default=None, ge=1)

    @property
    def torch_device(self) -> torch.device:
        """The device that is swept.

        Raises:
            ConfigError: A GPU is asked for and there is none.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "sweep.device is 'cuda', but PyTorch sees no CUDA device here; use auto or cpu"
            )
        if self.device != "auto":
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class SweepRow:
    """One combination.

    Attributes:
        precision: Of matrix products.
        batch_size: Clips per call.
        ms_per_clip: Median wall time of a call over its clips, in milliseconds.
        clips_per_s: Its inverse.
        tokens_per_s: Tokens (spatial and temporal) that come out per second.
        rate_fraction: FLOPs per second over those of a large matrix product of that precision on
            that device in the same run (the MFU, against what the device really reaches).
        spatial_ids_changed: Share of spatial ids that differ from those of float32, uncompiled.
        temporal_ids_changed: The same for temporal ids.
    """

    precision: str
    batch_size: int
    ms_per_clip: float
    clips_per_s: float
    tokens_per_s: float
    rate_fraction: float
    spatial_ids_changed: float
    temporal_ids_changed: float


def sweep(model_config: SweetTokConfig, config: SweepConfig) -> Iterator[SweepRow]:
    """Measures every combination of precision and batch size; rows come as they are measured."""
    device = config.torch_device
    torch.manual_seed(0)
    lexicon = random_lexicon(model_config, GraphConfig())
    model = SweetTok(model_config, lexicon).eval().requires_grad_(False).to(device)
    video = random_video(model_config.geometry, batch=max(config.batch_sizes), device=device)
    model.batch_invariant = False  # on a CPU, batches would else be taken clip by clip
    _settle_centring(model, video[:1])
    with precision_of("fp32", device):
        reference = Tokens.concatenated([model.encode(clip) for clip in video.split(1)])
    flops_per_clip = count_flops(lambda: model.encode(video[:1]))
    for precision in config.precisions:
        for batch_size in config.batch_sizes:
            with precision_of(precision, device):
                call = functools.partial(_encoding(model, config.compiler), video[:batch_size])
                wall_s, rate = _time_beside_product(call, precision, config)
                spatial, temporal = call()
            yield SweepRow(
                precision=precision,
                batch_size=batch_size,
                ms_per_clip=wall_s / batch_size * 1000,
                clips_per_s=batch_size / wall_s,
                tokens_per_s=batch_size * model_config.num_tokens / wall_s,
                rate_fraction=flops_per_clip * batch_size / wall_s / rate,
                spatial_ids_changed=_share_changed(spatial, reference.spatial),
                temporal_ids_changed=_share_changed(temporal, reference.temporal),
            )


def _time_beside_product(
    call: Callable[[], Any], precision: Precision, config: SweepConfig
) -> tuple[float, float]:
    """Median wall time of `call` in seconds, and the device's matrix rate in FLOP/s meanwhile."""
    device = config.torch_device
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    product, product_flops = matrix_product(device, dtype, config.matrix_edge)
    timings = time_alternating(
        {"encode": call, "product": product},
        num_repeats=config.num_repeats,
        num_warmups=config.num_warmups,
        device=device,
    )
    return timings["encode"].median_wall_s, product_flops / timings["product"].median_wall_s


@contextlib.contextmanager
def precision_of(precision: Precision, device: torch.device) -> Iterator[None]:
    """Runs what is inside in one precision of matrix products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _encoding(model: SweetTok, compiler: str | None) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Encoding, compiled with none of the graphs of earlier combinations left."""

    def encode(video: Tensor) -> tuple[Tensor, Tensor]:
        tokens = model.encode(video)
        return tokens.spatial, tokens.temporal

    if compiler is None:
        return encode
    torch.compiler.reset()
    model.refresh_codes()  # a compiled graph reads the stored codes without asking for their age
    return torch.compile(encode, backend=compiler, fullgraph=True, dynamic=False)


@torch.no_grad()
def _settle_centring(model: SweetTok, video: Tensor) -> None:
    """Takes the running statistics from `video`: an untrained model's ids would all be one word."""

    def settle(centring: Any, inputs: tuple[Tensor, ...]) -> None:
        centring.running_mean.copy_(inputs[0].mean(dim=0))
        centring.running_var.copy_(inputs[0].var(dim=0))

    readers = (model.encoder.spatial_queries, model.encoder.temporal_queries)
    handles = [reader.centre.register_forward_pre_hook(settle) for reader in readers]
    model.encoder(video)
    for handle in handles:
        handle.remove()


def _share_changed(ids: Tensor, reference: Tensor) -> float:
    same_clips = reference[: ids.shape[0]]
    return float((ids != same_clips).double().mean()) if ids.numel() else 0.0
