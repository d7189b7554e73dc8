"""The patch discriminator: shapes, what a logit sees, and that a clip is judged alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sweettok.errors import ConfigError, ShapeError
from sweettok.losses.discriminator import DiscriminatorConfig, PatchDiscriminator


def discriminator(**sizes: int) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(DiscriminatorConfig(**{"width": 16, "depth": 2, **sizes}))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("depth", "halvings", "shape", "expected"),
    [
        (2, 1, (1, 64, 64), (1, 16, 16)),
        (2, 2, (17, 16, 16), (5, 4, 4)),
        (3, 2, (5, 16, 24), (2, 2, 3)),
        (4, 2, (1, 16, 16), (1, 1, 1)),
        (3, 0, (9, 17, 31), (9, 2, 3)),
    ],
)
def test_logits_cover_clips_and_images_of_any_size(
    depth: int, halvings: int, shape: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    judge = discriminator(depth=depth, num_temporal_halvings=halvings)
    logits = judge(noise(2, 3, *shape))
    assert tuple(logits.shape) == (2, *expected)
    logits.sum().backward()
    assert all(
        parameter.grad is not None and bool(parameter.grad.isfinite().all())
        for parameter in judge.parameters()
    )


def test_an_image_is_judged_as_a_clip_that_stands_still() -> None:
    judge = discriminator(depth=3)
    image = noise(2, 3, 1, 32, 32)
    as_image, as_clip = judge(image), judge(image.expand(-1, -1, 9, -1, -1))
    torch.testing.assert_close(as_clip, as_image.expand_as(as_clip), rtol=1e-3, atol=1e-4)


def test_a_clip_is_judged_alone_and_nothing_moves() -> None:
    judge = discriminator()
    before = {name: tensor.clone() for name, tensor in judge.state_dict().items()}
    clips = noise(3, 3, 5, 16, 16)
    together = judge(clips)
    torch.testing.assert_close(together[1:2], judge(clips[1:2]), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in judge.state_dict().items())


def test_receptive_field_is_what_the_convolutions_show_a_logit() -> None:
    judge = discriminator(depth=2, num_temporal_halvings=1)
    for module in judge.modules():
        for name, child in module.named_children():
            # Group statistics reach further, as documented: the convolutions alone are measured.
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    frames, pixels = judge.receptive_field
    video = noise(1, 3, 33, 48, 48).requires_grad_()
    logits = judge(video)
    middle = tuple(size // 2 for size in logits.shape[1:])
    logits[(0, *middle)].backward()
    assert video.grad is not None
    seen = video.grad.abs().amax(dim=(0, 1)) > 0
    extents = [
        int(positions.max() - positions.min()) + 1 for positions in seen.nonzero().unbind(dim=1)
    ]
    assert extents == [frames, pixels, pixels] == [15, 26, 26]


def test_half_precision_stays_close() -> None:
    judge = discriminator(depth=1, num_temporal_halvings=0)
    image = noise(1, 3, 1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        logits = judge(image)
    torch.testing.assert_close(logits.float(), judge(image), rtol=0.1, atol=0.1)


def test_dials_set_the_number_of_parameters() -> None:
    assert discriminator(depth=1, num_temporal_halvings=1).num_parameters == (
        16 * 3 * 48 + 16 + (16 * 16 * 27 + 16) + 2 * 16 + (16 * 27 + 1)
    )
    assert discriminator(width=32).num_parameters > 3 * discriminator().num_parameters


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((1, 3, 16, 16), "RGB clips"),
        ((1, 4, 1, 16, 16), "RGB clips"),
        ((1, 3, 0, 16, 16), "RGB clips"),
        ((1, 3, 1, 7, 16), "at least 8×8 px.*lower its depth"),
    ],
)
def test_what_cannot_be_judged_is_refused(shape: tuple[int, ...], named: str) -> None:
    with pytest.raises(ShapeError, match=named):
        discriminator(depth=3)(torch.zeros(shape))


@pytest.mark.parametrize("values", [{"width": 24}, {"depth": 2, "num_temporal_halvings": 3}])
def test_sizes_that_do_not_fit_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=list(values)[-1]):
        DiscriminatorConfig.from_mapping(values)
