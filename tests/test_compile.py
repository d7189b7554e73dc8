"""`torch.compile(fullgraph=True)`: no graph break in encoding, decoding and the forward pass."""

from __future__ import annotations

import os

import pytest
import torch

from sweettok import SweetTok, SweetTokConfig
from sweettok.benchmarking.sweep import SweepConfig, sweep
from tests.tiny_models import tiny_config

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get("REQUIRE_GPU") != "1",
    reason="needs a CUDA device (REQUIRE_GPU=1 makes this a failure)",
)


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch.compiler.reset()


def noise(config: SweetTokConfig, batch: int) -> torch.Tensor:
    geometry = config.geometry
    size = (geometry.num_frames, geometry.height_px, geometry.width_px)
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_forward_pass_is_one_graph_in_inference(lively: SweetTok) -> None:
    compiled = torch.compile(lively, backend="aot_eager", fullgraph=True)
    video = noise(lively.config, 2)
    with torch.no_grad():
        expected, found = lively(video), compiled(video)
    assert found.tokens.equal(expected.tokens)
    assert torch.allclose(found.reconstruction, expected.reconstruction, atol=1e-4)


def test_the_forward_pass_is_one_graph_in_training(lively: SweetTok) -> None:
    lively.train()
    compiled = torch.compile(lively, backend="aot_eager", fullgraph=True)
    video = noise(lively.config, 2)
    output = compiled(video)
    (output.reconstruction.sub(video).square().mean() + output.quantizer_loss).backward()
    found = {name: part.grad.clone() for name, part in lively.named_parameters()}
    lively.zero_grad()
    output = lively(video)
    (output.reconstruction.sub(video).square().mean() + output.quantizer_loss).backward()
    for name, part in lively.named_parameters():
        assert torch.allclose(part.grad, found[name], atol=1e-4), name


def test_a_compiled_encoder_takes_codes_that_were_refreshed(lively: SweetTok) -> None:
    def encode(video: torch.Tensor) -> torch.Tensor:
        return lively.encode(video).spatial

    compiled = torch.compile(encode, backend="aot_eager", fullgraph=True)
    video = noise(lively.config, 1)
    assert torch.equal(compiled(video), encode(video))
    with torch.no_grad():
        lively.spatial_quantizer.codebook.direct.weight.mul_(-1)
    lively.refresh_codes()
    assert torch.equal(compiled(video), encode(video))


@torch._dynamo.config.patch(recompile_limit=1)
def test_a_sweep_compiles_more_combinations_than_the_compiler_keeps() -> None:
    config = SweepConfig(
        device="cpu",
        batch_sizes=(1, 2),
        precisions=("fp32",),
        compiler="eager",
        num_repeats=1,
        num_warmups=1,
        matrix_edge=64,
    )
    image = {"num_frames": 1, "height_px": 32, "width_px": 48}
    rows = list(sweep(tiny_config(geometry=image), config))
    assert [row.batch_size for row in rows] == list(config.batch_sizes)
    assert all(row.spatial_ids_changed < 0.05 for row in rows)


@needs_gpu
def test_compiled_encoding_on_a_gpu_over_precisions_and_batches() -> None:
    config = SweepConfig(device="cuda", batch_sizes=(1, 4), num_repeats=2)
    rows = list(sweep(tiny_config(), config))
    assert [(row.precision, row.batch_size) for row in rows] == [
        (precision, size) for precision in ("fp32", "tf32", "bf16") for size in (1, 4)
    ]
    assert all(row.clips_per_s > 0 for row in rows)
    float32 = [row for row in rows if row.precision == "fp32"]
    assert all(row.spatial_ids_changed < 0.05 for row in float32)
