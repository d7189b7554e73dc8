"""Adversarial losses against NumPy written from the papers, and what training with them does."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from hypothesis import given
from hypothesis import strategies as st

from sweettok.errors import ConfigError
from sweettok.losses.adversarial import (
    AdversarialConfig,
    AdversarialKind,
    LeCam,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
)
from sweettok.losses.discriminator import DiscriminatorConfig, PatchDiscriminator

KINDS: tuple[AdversarialKind, ...] = ("hinge", "non_saturating")
logits = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=8)


@given(real=logits, fake=logits)
def test_losses_are_the_publications_formulas(real: list[float], fake: list[float]) -> None:
    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    expected = {
        "hinge": (
            np.mean([max(0.0, 1 - r) for r in real]) + np.mean([max(0.0, 1 + f) for f in fake]),
            -np.mean(fake),
        ),
        "non_saturating": (
            # 1 − sigmoid(f) is sigmoid(−f), without cancellation.
            -np.mean([math.log(sigmoid(r)) for r in real])
            - np.mean([math.log(sigmoid(-f)) for f in fake]),
            -np.mean([math.log(sigmoid(f)) for f in fake]),
        ),
    }
    for kind in KINDS:
        for_discriminator, for_generator = expected[kind]
        found = discriminator_loss(torch.tensor(real), torch.tensor(fake), kind)
        assert found.item() == pytest.approx(for_discriminator / 2, rel=1e-4, abs=1e-5)
        found = generator_loss(torch.tensor(fake), kind)
        assert found.item() == pytest.approx(for_generator, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_logits_of_half_precision_stay_finite(kind: AdversarialKind) -> None:
    real, fake = torch.tensor([-3e4]).bfloat16(), torch.tensor([3e4]).bfloat16()
    loss = discriminator_loss(real, fake, kind)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(3e4, rel=1e-2)


def patterns(count: int, brightness: float, seed: int) -> torch.Tensor:
    """Noise clips [count, 3, 5, 16, 16] around one brightness."""
    generator = torch.Generator().manual_seed(seed)
    return brightness + 0.3 * torch.randn(count, 3, 5, 16, 16, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_discriminator_learns_and_its_judgement_pulls_the_reconstruction(
    kind: AdversarialKind,
) -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(DiscriminatorConfig(width=16, depth=2))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    first = None
    for step in range(25):
        real = discriminator(patterns(4, 0.4, seed=2 * step))
        fake = discriminator(patterns(4, -0.4, seed=2 * step + 1))
        loss = discriminator_loss(real, fake, kind)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first
    real, fake = discriminator(patterns(4, 0.4, 998)), discriminator(patterns(4, -0.4, 999))
    assert (real > 0).float().mean() > 0.95
    assert (fake < 0).float().mean() > 0.95

    offset = torch.tensor(-0.4, requires_grad=True)
    generator_loss(discriminator(offset + patterns(4, 0.0, 1000)), kind).backward()
    # Descending moves the reconstruction's brightness up, to that of the originals.
    assert offset.grad is not None
    assert offset.grad.item() < 0


def test_lecam_is_the_publications_formula_over_a_run() -> None:
    decay, rng = 0.9, np.random.default_rng(0)
    lecam = LeCam(decay)
    real_average = fake_average = None
    for _ in range(5):
        real, fake = rng.normal(1, 1, size=(2, 3)), rng.normal(-1, 1, size=(4, 1))
        if real_average is None or fake_average is None:
            real_average, fake_average = real.mean(), fake.mean()
        real_average = decay * real_average + (1 - decay) * real.mean()
        fake_average = decay * fake_average + (1 - decay) * fake.mean()
        expected = ((real - fake_average) ** 2).mean() + ((fake - real_average) ** 2).mean()
        found = lecam(torch.from_numpy(real), torch.from_numpy(fake))
        assert found.item() == pytest.approx(expected, rel=1e-5)
    assert lecam.real_average.item() == pytest.approx(real_average, rel=1e-5)


def test_lecam_pulls_sure_logits_together_and_not_its_averages() -> None:
    lecam = LeCam(0.99)
    real, fake = (torch.full((4,), value, requires_grad=True) for value in (5.0, -5.0))
    first = lecam(real, fake)
    second = lecam(real, fake)
    (first + second).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert bool((real.grad > 0).all())
    assert bool((fake.grad < 0).all())
    assert not lecam.real_average.requires_grad


def test_lecam_continues_where_it_was_saved_and_rests_in_inference() -> None:
    lecam, restored = LeCam(0.5), LeCam(0.5)
    real, fake = torch.tensor([2.0]), torch.tensor([-2.0])
    lecam(real, fake)
    restored.load_state_dict(lecam.state_dict())
    assert lecam(real + 1, fake).item() == restored(real + 1, fake).item()
    assert lecam.real_average.item() == restored.real_average.item() == 2.5
    before = lecam.eval().real_average.clone()
    lecam(real + 9, fake)
    assert torch.equal(lecam.real_average, before)


def test_adaptive_weight_balances_the_gradients_at_the_layer() -> None:
    layer = torch.nn.Linear(3, 4)
    output = layer(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
    reconstruction_loss, adversarial_loss = output.square().mean(), -output.tanh().mean()
    weight = adaptive_weight(reconstruction_loss, adversarial_loss, layer.weight, max_weight=1e4)
    norms = []
    for loss in (reconstruction_loss, weight * adversarial_loss):
        layer.zero_grad()
        loss.backward(retain_graph=True)
        assert layer.weight.grad is not None
        norms.append(layer.weight.grad.norm())
    assert not weight.requires_grad
    torch.testing.assert_close(norms[1], norms[0], rtol=1e-3, atol=0)


def test_adaptive_weight_is_clamped_and_survives_a_loss_without_slope() -> None:
    values = torch.ones(4, requires_grad=True)
    steep, flat = (3 * values).sum(), (0 * values).sum()
    assert adaptive_weight(steep, steep / 30, values, max_weight=7.0).item() == 7.0
    assert adaptive_weight(steep, flat, values, max_weight=7.0).item() == 7.0
    assert adaptive_weight(flat, steep, values, max_weight=7.0).item() == 0.0


def test_the_weight_starts_late_and_rises() -> None:
    config = AdversarialConfig(weight=0.4, start_step=10, ramp_steps=4)
    found = [config.weight_at(step) for step in (0, 9, 10, 11, 13, 1000)]
    assert found == pytest.approx([0, 0, 0.1, 0.2, 0.4, 0.4])
    assert [config.is_active_at(step) for step in (9, 10)] == [False, True]
    at_once = AdversarialConfig(weight=0.4, start_step=10)
    assert [at_once.weight_at(step) for step in (9, 10)] == [0, 0.4]
    off = AdversarialConfig(weight=0, start_step=0)
    assert not off.is_active_at(5)
    assert off.weight_at(5) == 0


@pytest.mark.parametrize(
    "values", [{"kind": "wasserstein"}, {"weight": -1}, {"lecam_decay": 1.0}, {"start": 3}]
)
def test_configurations_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        AdversarialConfig.from_mapping(values)


def _worker(rank: int, rendezvous: str, results: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    lecam = LeCam(0.9)
    lecam(torch.tensor([1.0 + 2 * rank]), torch.tensor([-1.0 - 4 * rank]))
    values = torch.ones(4, requires_grad=True)
    slope = 3.0 if rank == 0 else 4.0
    weight = adaptive_weight((slope * values).sum(), values.sum(), values, max_weight=1e4)
    averages = [lecam.real_average.item(), lecam.fake_average.item(), weight.item()]
    torch.save(torch.tensor(averages), f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_workers_agree_on_averages_and_weight(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_worker, args=(str(tmp_path / "meet"), str(tmp_path)), nprocs=2)
    left, right = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(left, right)
    expected = torch.tensor([2.0, -3.0, math.sqrt((9 + 16) / 2)])
    torch.testing.assert_close(left, expected, rtol=1e-5, atol=0)
