"""Ids that do not depend on the batch, and stored ids that decode to the forward pass, exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweettok import Lexicon, SweetTok, SweetTokConfig, Tokens
from tests.tiny_models import tiny_config


@st.composite
def configs(draw: st.DrawFn) -> SweetTokConfig:
    """Any geometry, query layout and window that fit together, in a model of one block each."""
    patch = draw(st.sampled_from([4, 8]))
    tube = draw(st.sampled_from([2, 4]))
    layouts: dict[str, dict[str, Any]] = {}
    for name in ("spatial_queries", "temporal_queries"):
        cells = draw(st.sampled_from([1, 2]))
        window = draw(st.sampled_from([None, 1, 2]))
        layouts[name] = {"cells_per_query": cells, "window_queries": window}
    unit = 4 * patch
    return tiny_config(
        geometry={
            "num_frames": 1 + tube * draw(st.integers(0, 3)),
            "height_px": unit * draw(st.integers(1, 2)),
            "width_px": unit * draw(st.integers(1, 2)),
            "patch_px": patch,
            "tube_frames": tube,
        },
        encoder={
            "spatial_depth": 1,
            "temporal_depth": 1,
            "spatial_source": draw(st.sampled_from(["first", "mean"])),
        },
        **layouts,
    )


def noise(config: SweetTokConfig, batch: int, *, channels_last: bool = False) -> torch.Tensor:
    geometry = config.geometry
    size = (geometry.num_frames, geometry.height_px, geometry.width_px)
    generator = torch.Generator().manual_seed(sum(size))
    if channels_last:
        return (torch.rand(batch, *size, 3, generator=generator) * 2 - 1).permute(0, 4, 1, 2, 3)
    return torch.rand(batch, 3, *size, generator=generator) * 2 - 1


def lively(config: SweetTokConfig, lexicon: Lexicon) -> SweetTok:
    """A tokenizer whose pixels depend on its tokens: untrained heads are grey."""
    torch.manual_seed(0)
    model = SweetTok(config, lexicon).eval()
    with torch.no_grad():
        model.decoder.heads.first_frame.weight.normal_(std=0.1)
        model.decoder.heads.tubes.weight.normal_(std=0.1)
    return model


@given(config=configs(), batch=st.integers(2, 3), channels_last=st.booleans())
@settings(max_examples=15, deadline=None)
def test_ids_and_pixels_of_a_clip_are_its_own(
    lexicon: Lexicon, config: SweetTokConfig, batch: int, channels_last: bool
) -> None:
    model = lively(config, lexicon)
    video = noise(config, batch, channels_last=channels_last)
    together = model.encode(video)
    with torch.no_grad():
        output = model(video)
    assert together.equal(output.tokens)
    assert together.equal(model.encode(video.contiguous()))
    stored = Tokens(
        together.spatial.to(torch.int16).long(), together.temporal.to(torch.int16).long()
    )
    assert torch.equal(model.decode(stored), output.reconstruction)
    for index in range(batch):
        clip = slice(index, index + 1)
        alone = model.encode(video[clip])
        assert alone.equal(together[clip])
        assert torch.equal(model.decode(alone), output.reconstruction[clip])


@pytest.mark.parametrize("num_frames", [1, 9])
def test_one_clip_or_sixteen_give_the_same_latents_bit_by_bit(
    lexicon: Lexicon, num_frames: int
) -> None:
    model = lively(tiny_config(), lexicon)
    latents: list[torch.Tensor] = []
    model.spatial_quantizer.register_forward_pre_hook(
        lambda _, inputs: latents.append(inputs[0].detach().clone())
    )
    video = noise(model.config, 16)[:, :, :num_frames]
    together = model.encode(video)
    parts = [model.encode(clip) for clip in video.split(1)]
    assert Tokens.concatenated(parts).equal(together)
    sixteen, singles = torch.cat(latents[:16]), torch.cat(latents[16:])
    assert torch.equal(sixteen, singles)


def test_gradients_in_inference_do_not_change_ids(lexicon: Lexicon) -> None:
    model = lively(tiny_config(), lexicon)
    video = noise(model.config, 3).requires_grad_()
    output = model(video)
    output.reconstruction.square().mean().backward()
    assert video.grad is not None
    assert video.grad.abs().sum() > 0
    assert output.tokens.equal(model.encode(video.detach()))


def test_blocks_in_pieces_are_the_same_function(lexicon: Lexicon) -> None:
    """More positions than one piece: with gradients a block takes them whole, without in pieces."""
    config = tiny_config(geometry={"num_frames": 17, "height_px": 128, "width_px": 160})
    block = SweetTok(config, lexicon).encoder.spatial_blocks[0]
    frames = torch.randn(5, 320, config.width, generator=torch.Generator().manual_seed(0))
    whole = block(frames)
    with torch.no_grad():
        pieces = block(frames)
    assert whole.requires_grad
    assert torch.allclose(whole.detach(), pieces, atol=1e-5)
