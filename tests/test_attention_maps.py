"""Attention maps: the weights that attention really uses, laid over the cells they belong to."""

from __future__ import annotations

import pytest
import torch

from sweettok import SweetTok
from sweettok.attention import Attention
from sweettok.attention_maps import attention_maps
from sweettok.encoder import QueryReader
from sweettok.errors import ShapeError

ROWS, COLUMNS, TUBES = 4, 6, 2  # of the latent grid of 9×32×48 px


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(2, 3, 9, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_weights_are_those_that_attention_mixes_with() -> None:
    torch.manual_seed(0)
    attention = Attention(width=32, head_dim=8)
    sequence, context = torch.randn(3, 5, 32), torch.randn(3, 7, 32)
    value = attention.to_key_value(context)[..., 32:].view(3, 7, 4, 8)
    mixed = torch.einsum("ngij,njgf->nigf", attention.weights(sequence, context), value)
    by_hand = attention.to_output(mixed.reshape(3, 5, 32))
    assert torch.allclose(by_hand, attention(sequence, context), atol=1e-6)


def test_each_token_looks_at_its_own_window(model: SweetTok, video: torch.Tensor) -> None:
    maps = attention_maps(model, video)
    assert maps.spatial.shape == (2, ROWS * COLUMNS, ROWS, COLUMNS)
    assert maps.temporal.shape == (2, TUBES * (ROWS // 2) * (COLUMNS // 2), ROWS, COLUMNS)
    for found in (maps.spatial, maps.temporal):
        assert torch.allclose(found.sum(dim=(2, 3)), torch.ones(found.shape[:2]), atol=1e-5)
    # Spatial queries stand for a cell each and look at squares of two cells; temporal queries
    # stand for such squares and look at nothing else. So all of them have the same windows.
    for row in range(0, ROWS, 2):
        for column in range(0, COLUMNS, 2):
            inside = maps.spatial[:, row * COLUMNS + column, row : row + 2, column : column + 2]
            assert torch.allclose(inside.sum(dim=(1, 2)), torch.ones(2), atol=1e-5)
            for tube in range(TUBES):
                token = (tube * 2 + row // 2) * 3 + column // 2
                inside = maps.temporal[:, token, row : row + 2, column : column + 2]
                assert torch.allclose(inside.sum(dim=(1, 2)), torch.ones(2), atol=1e-5)


def test_maps_are_the_clip_s_own(model: SweetTok, video: torch.Tensor) -> None:
    both, second = attention_maps(model, video), attention_maps(model, video[1:])
    assert torch.allclose(both.spatial[1:], second.spatial, atol=1e-6)
    assert torch.allclose(both.temporal[1:], second.temporal, atol=1e-6)
    assert not torch.allclose(both.temporal[0], both.temporal[1], atol=1e-4)
    image = attention_maps(model, video[:, :, :1])
    assert image.spatial.shape[1] == ROWS * COLUMNS
    assert image.temporal.shape[1] == 0


def test_encoding_is_left_as_it_was(model: SweetTok, video: torch.Tensor) -> None:
    before = model.encode(video)
    attention_maps(model, video)
    with pytest.raises(ShapeError, match="33"):
        attention_maps(model, torch.zeros(1, 3, 9, 33, 48))
    broken = video.clone()
    with pytest.raises(RuntimeError):
        attention_maps(model, broken[:, :2])
    hooks = [
        part._forward_pre_hooks
        for reader in model.modules()
        if isinstance(reader, QueryReader)
        for part in reader.modules()
    ]
    assert len(hooks) > 10
    assert not any(hooks)
    assert model.encode(video).equal(before)
