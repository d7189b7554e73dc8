"""Other frame counts, non-square and other resolutions, image mode, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweettok import Lexicon, SweetTok
from sweettok.encoder import attention_window
from sweettok.errors import ShapeError
from sweettok.layout import size_step_px, token_layout
from tests.tiny_models import tiny_config


def noise(frames: int, height_px: int, width_px: int, *, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames * height_px + width_px)
    return torch.rand(batch, 3, frames, height_px, width_px, generator=generator) * 2 - 1


@pytest.mark.parametrize(
    "size", [(9, 32, 48), (1, 64, 16), (5, 16, 16), (17, 48, 32), (13, 16, 80)]
)
def test_clips_of_other_sizes_decode_as_the_forward_pass(
    lively: SweetTok, size: tuple[int, int, int]
) -> None:
    video = noise(*size, batch=2)
    frames, height, width = size
    geometry = lively.config.geometry.of_size(num_frames=frames, height_px=height, width_px=width)
    tokens = lively.encode(video)
    with torch.no_grad():
        output = lively(video)
    assert output.reconstruction.shape == video.shape
    assert tokens.equal(output.tokens)
    assert tokens.spatial.shape[1] == height // 8 * (width // 8)
    assert tokens.temporal.shape[1] == (frames - 1) // 4 * (height // 16) * (width // 16)
    assert torch.equal(lively.decode(tokens, geometry), output.reconstruction)


def test_equal_numbers_of_tokens_in_another_shape_are_another_picture(lively: SweetTok) -> None:
    geometry = lively.config.geometry
    tokens = lively.encode(noise(9, 32, 48))
    turned = lively.decode(tokens, geometry.of_size(height_px=48, width_px=32))
    assert turned.shape == (1, 3, 9, 48, 32)
    assert not torch.equal(turned.flatten(), lively.decode(tokens).flatten())


def test_more_frames_do_not_change_the_tokens_of_earlier_ones(lexicon: Lexicon) -> None:
    """Motion is causal; appearance too where it is that of the first frame."""
    torch.manual_seed(0)
    encoder = tiny_config().encoder.to_mapping() | {"spatial_source": "first"}
    model = SweetTok(tiny_config(encoder=encoder), lexicon).eval()
    video = noise(17, 32, 48)
    whole, start = model.encode(video), model.encode(video[:, :, :9])
    assert torch.equal(whole.spatial, start.spatial)
    assert torch.equal(whole.temporal[:, : start.temporal.shape[1]], start.temporal)


def test_images_of_any_size_round_trip(lively: SweetTok) -> None:
    image = noise(1, 64, 32, batch=3)
    tokens = lively.encode(image)
    assert tokens.temporal.shape == (3, 0)
    geometry = lively.config.geometry.of_size(num_frames=1, height_px=64, width_px=32)
    with torch.no_grad():
        assert torch.equal(lively.decode(tokens, geometry), lively(image).reconstruction)
    assert torch.equal(
        lively.decode(tokens, geometry.of_size(num_frames=9)), lively.decode(tokens, geometry)
    )


def test_bits_follow_the_geometry(model: SweetTok) -> None:
    geometry = model.config.geometry
    assert model.bits_per_clip() == pytest.approx(model.config.bits_per_clip)
    doubled = model.bits_per_clip(geometry.of_size(height_px=2 * geometry.height_px))
    assert doubled == pytest.approx(2 * model.bits_per_clip())
    assert model.bits_per_clip(geometry.image) < model.bits_per_clip()
    layout = token_layout(model.config, geometry)
    assert layout.num_spatial_tokens == model.config.num_spatial_tokens
    assert layout.num_temporal_tokens == model.config.num_temporal_tokens


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 8, 32, 48), "use 5 or 9"),
        ((1, 3, 9, 30, 48), "height_px must be a multiple of patch_px=8"),
        ((1, 3, 9, 32, 40), "width of 40 px is no multiple of 16 px.*use 32 or 48"),
        ((1, 3, 9, 8, 48), "height of 8 px.*use 16"),
        ((1, 3, 9, 0, 48), "height_px"),
        ((1, 4, 9, 32, 48), r"\[batch, 3, frames, height, width\].*got \[1, 4"),
        ((3, 9, 32, 48), r"\[batch, 3, 9, 32, 48\], got \[3, 9"),
    ],
)
def test_sizes_that_do_not_divide_are_refused_with_those_that_do(
    model: SweetTok, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        model.encode(torch.zeros(shape))
    with pytest.raises(ShapeError, match=message):
        model(torch.zeros(shape))


def test_the_least_step_of_a_size_is_what_patches_and_windows_ask_for(lexicon: Lexicon) -> None:
    config = tiny_config(
        geometry={"num_frames": 9, "height_px": 48, "width_px": 96},
        spatial_queries={"cells_per_query": 1, "window_queries": 3},
        temporal_queries={"cells_per_query": 2, "window_queries": None},
    )
    assert size_step_px(config) == 48
    model = SweetTok(config, lexicon).eval()
    assert model.encode(noise(1, 96, 48)).spatial.shape == (1, 72)
    with pytest.raises(ShapeError, match=r"no multiple of 48 px.*use 48 or 96"):
        model.encode(noise(1, 72, 48))


def test_decode_refuses_tokens_and_geometries_that_do_not_fit(model: SweetTok) -> None:
    geometry = model.config.geometry
    tokens = model.encode(noise(17, 32, 48))
    with pytest.raises(ShapeError, match=r"24 spatial and 12 temporal.*got 24 and 24.*geometry"):
        model.decode(tokens)
    assert model.decode(tokens, geometry.of_size(num_frames=17)).shape[2] == 17
    foreign = geometry.model_copy(update={"patch_px": 4})
    with pytest.raises(ShapeError, match=r"patch_px is 4, the tokenizer's is 8.*of_size"):
        model.decode(tokens, foreign)
    with pytest.raises(ShapeError, match="use 9 or 13"):
        geometry.of_size(num_frames=10)
    with pytest.raises(ShapeError, match=r"num_frames.*greater than or equal to 1"):
        geometry.of_size(num_frames=0)


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    edge=st.integers(1, 45) | st.none(),
)
@settings(deadline=None)
def test_attention_windows_tile_any_grid_and_are_never_smaller_than_asked_for(
    rows: int, columns: int, edge: int | None
) -> None:
    for cells, size in zip((rows, columns), attention_window(edge, rows, columns), strict=True):
        assert cells % size == 0
        assert size == cells or (edge is not None and size >= edge)
        if edge is not None and cells % edge == 0:
            assert size == edge


def test_spatial_blocks_with_windows_look_no_further_until_the_last_one(lexicon: Lexicon) -> None:
    torch.manual_seed(0)
    config = tiny_config(encoder={"spatial_depth": 2, "spatial_window_cells": 2})
    encoder = SweetTok(config, lexicon).eval().encoder
    cells = torch.randn(1, 2, 4, 4, config.width)
    changed = cells.clone()
    changed[:, :, 0, 0] += 1.0
    with torch.no_grad():
        first, last = (
            (encoder._within_frames(layer, changed) - encoder._within_frames(layer, cells)).abs()
            for layer in range(2)
        )
    seen = first.amax(dim=(0, 1, 4)) > 0
    assert seen[:2, :2].all()
    assert not seen[2:].any()
    assert not seen[:, 2:].any()
    assert (last.amax(dim=(0, 1, 4)) > 0).all()


def test_windows_as_large_as_the_grid_are_no_windows(lexicon: Lexicon) -> None:
    video = noise(5, 32, 32)
    latents = []
    for edge in (None, 4, 64):
        torch.manual_seed(0)
        config = tiny_config(
            geometry={"num_frames": 5, "height_px": 32, "width_px": 32},
            encoder={"spatial_depth": 2, "spatial_window_cells": edge},
        )
        latents.append(SweetTok(config, lexicon).eval().encoder(video))
    assert all(
        torch.equal(found, latents[0][part])
        for other in latents[1:]
        for part, found in enumerate(other)
    )
