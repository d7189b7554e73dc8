"""The perceptual distance against slow NumPy, its gradient, its weight files, real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from sweettok.errors import CheckpointError, ConfigError, ShapeError
from sweettok.losses.perceptual import (
    PerceptualConfig,
    PerceptualDistance,
    choose_frames,
    create_perceptual_distance,
)
from sweettok.losses.vgg import VggFeatures, load_lpips_heads
from tests.feature_networks import numpy_distance, random_heads, random_vgg16_tensors

REAL_WEIGHTS = Path(__file__).parents[1] / "data/feature_weights/vgg16_edges.safetensors"


@pytest.fixture(scope="module")
def features() -> VggFeatures:
    return VggFeatures(random_vgg16_tensors(), origin="random")


def clips(
    num_clips: int = 2, num_frames: int = 3, size_px: int = 16, seed: int = 0
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_clips, 3, num_frames, size_px, size_px)
    return torch.rand(shape, generator=generator) * 2 - 1


@pytest.mark.parametrize("with_heads", [False, True])
def test_distance_is_the_publications_formula(features: VggFeatures, with_heads: bool) -> None:
    heads = random_heads() if with_heads else None
    distance = PerceptualDistance(features, heads=heads, frames_per_chunk=2)
    original, reconstruction = clips(2, 1), clips(2, 1, seed=1)
    expected = [
        numpy_distance(
            random_vgg16_tensors(),
            left[:, 0].numpy(),
            right[:, 0].numpy(),
            [head.numpy() for head in heads] if heads else None,
        )
        for left, right in zip(original, reconstruction, strict=True)
    ]
    found = distance(original, reconstruction)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_a_clips_distance_is_the_mean_of_its_frames(features: VggFeatures) -> None:
    distance = PerceptualDistance(features)
    original, reconstruction = clips(), clips(seed=1)
    alone = [
        distance(original[:, :, frame : frame + 1], reconstruction[:, :, frame : frame + 1])
        for frame in range(3)
    ]
    torch.testing.assert_close(distance(original, reconstruction), torch.stack(alone).mean(dim=0))


@pytest.mark.parametrize("frames_per_chunk", [1, 4])
def test_gradient_by_chunks_is_the_gradient_of_ordinary_autograd(
    features: VggFeatures, frames_per_chunk: int
) -> None:
    distance = PerceptualDistance(features, frames_per_chunk=frames_per_chunk)
    original = clips()
    reconstruction = clips(seed=1).requires_grad_()
    weights = torch.tensor([0.5, -2.0])
    (found,) = torch.autograd.grad(
        (distance(original, reconstruction) * weights).sum(), reconstruction
    )
    expected = torch.zeros(())
    for clip, weight in enumerate(weights):
        pair = (original[clip].transpose(0, 1), reconstruction[clip].transpose(0, 1))
        expected = expected + weight * distance.frame_distances(*pair).mean()
    (wanted,) = torch.autograd.grad(expected, reconstruction)
    assert wanted.abs().max() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-8)


def test_no_more_frames_than_allowed_are_in_the_network(features: VggFeatures) -> None:
    distance = PerceptualDistance(features, frames_per_chunk=4)
    seen: list[int] = []
    hook = features.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    distance(clips(), clips(seed=1).requires_grad_()).sum().backward()
    hook.remove()
    assert max(seen) == 4
    assert sum(seen) == 2 * 6


def test_what_is_kept_for_the_backward_pass_is_one_gradient(features: VggFeatures) -> None:
    distance = PerceptualDistance(features, frames_per_clip=2)
    reconstruction = clips(1, 9).requires_grad_()
    result = distance(clips(1, 9, seed=1), reconstruction)
    kept, waiting = 0, [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        saved = getattr(node, "saved_tensors", ())
        kept += sum(tensor.numel() for tensor in saved)
        waiting += [parent for parent, _ in node.next_functions]
    assert kept == 2 * 3 * 16 * 16


def test_the_gradient_leads_to_the_original_and_to_nothing_else(features: VggFeatures) -> None:
    distance = PerceptualDistance(features)
    original, reconstruction = clips(1, 1).requires_grad_(), clips(1, 1, seed=1).requires_grad_()
    before = distance(original, reconstruction)
    before.sum().backward()
    assert original.grad is None
    assert reconstruction.grad is not None
    with torch.no_grad():
        step = reconstruction.grad * (0.5 / reconstruction.grad.norm())
        assert distance(original, reconstruction - step) < before
        assert distance(original, reconstruction + step) > before
        assert distance(original, original).item() == 0.0


def test_features_that_are_all_dead_give_finite_gradients() -> None:
    tensors = dict(random_vgg16_tensors())
    tensors["conv3_1.bias"] = torch.full_like(tensors["conv3_1.bias"], -1e4)
    tensors |= {
        f"conv{layer}.bias": torch.zeros_like(tensors[f"conv{layer}.bias"])
        for layer in ("3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3")
    }
    distance = PerceptualDistance(VggFeatures(tensors, origin="half dead"))
    reconstruction = clips(1, 1, seed=1).requires_grad_()
    value = distance(clips(1, 1), reconstruction)
    value.sum().backward()
    assert value.item() > 0
    assert reconstruction.grad is not None
    assert bool(reconstruction.grad.isfinite().all())
    assert reconstruction.grad.abs().max() > 0


def test_nothing_of_the_network_is_trained_or_saved(features: VggFeatures) -> None:
    distance = PerceptualDistance(features, heads=random_heads())
    assert list(distance.parameters()) == []
    assert distance.state_dict() == {}


def test_only_the_compared_frames_get_a_gradient(features: VggFeatures) -> None:
    distance = PerceptualDistance(features, frames_per_clip=2)
    original, reconstruction = clips(2, 6), clips(2, 6, seed=1).requires_grad_()
    distance(original, reconstruction, seed=5).sum().backward()
    assert reconstruction.grad is not None
    touched = reconstruction.grad.abs().amax(dim=(1, 3, 4)) > 0
    for clip, chosen in enumerate(choose_frames(2, 6, 2, 5).tolist()):
        assert touched[clip].nonzero().flatten().tolist() == sorted(set(chosen))


def test_without_a_seed_the_middle_of_each_span_is_compared() -> None:
    assert choose_frames(2, 17, 3, None).tolist() == [[2, 8, 14]] * 2
    assert choose_frames(1, 17, 1, None).tolist() == [[8]]


@given(
    num_frames=st.integers(1, 40),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**40),
)
def test_each_span_gives_one_frame_again_the_same(num_frames: int, share: float, seed: int) -> None:
    wanted = max(1, round(share * num_frames))
    chosen = choose_frames(3, num_frames, wanted, seed)
    assert torch.equal(chosen, choose_frames(3, num_frames, wanted, seed))
    spans = torch.arange(wanted) * (num_frames / wanted)
    assert bool((chosen >= spans.floor()).all())
    assert bool((chosen < (spans + num_frames / wanted).ceil()).all())
    assert int(chosen.max()) < num_frames


def test_every_frame_counts_alike_over_many_seeds() -> None:
    chosen = choose_frames(20_000, 17, 5, seed=0)
    shares = torch.bincount(chosen.flatten(), minlength=17) / chosen.numel()
    torch.testing.assert_close(shares, torch.full((17,), 1 / 17), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("shape", "other", "named"),
    [
        ((1, 3, 2, 16, 16), (1, 3, 1, 16, 16), "same shape"),
        ((1, 2, 16, 16, 3), (1, 2, 16, 16, 3), "frames, height, width"),
        ((1, 3, 1, 16, 15), (1, 3, 1, 16, 15), "16×16"),
        ((0, 3, 1, 16, 16), (0, 3, 1, 16, 16), "RGB clips"),
    ],
)
def test_what_is_no_pair_of_clips_is_refused(
    features: VggFeatures, shape: tuple[int, ...], other: tuple[int, ...], named: str
) -> None:
    with pytest.raises(ShapeError, match=named):
        PerceptualDistance(features)(torch.zeros(shape), torch.zeros(other))


def test_weight_files_come_back_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    whole = random_vgg16_tensors()
    path = tmp_path / "vgg.safetensors"
    save_file(whole, path, metadata={"origin": "drawn at random"})
    loaded = VggFeatures.load(path)
    assert loaded.origin == "drawn at random"
    assert torch.equal(loaded.get_buffer("conv4_2_weight"), whole["conv4_2.weight"])
    for name, damaged in {
        "misses conv5_3.bias": {k: v for k, v in whole.items() if k != "conv5_3.bias"},
        "unknown fc6.weight": {**whole, "fc6.weight": torch.zeros(1)},
        "input_mean has the shape": {**whole, "input_mean": torch.zeros(1)},
        "input_std holds values": {**whole, "input_std": torch.full((3,), float("nan"))},
    }.items():
        with pytest.raises(CheckpointError, match=name):
            VggFeatures(damaged, origin="damaged")
    path.write_bytes(path.read_bytes()[:1000])
    for unreadable in (path, tmp_path / "absent.safetensors"):
        with pytest.raises(CheckpointError, match=r"cannot be read.*fetch_feature_weights"):
            VggFeatures.load(unreadable)


def test_heads_below_zero_are_refused(tmp_path: Path) -> None:
    heads = {f"head_{index}": head for index, head in enumerate(random_heads())}
    save_file(heads, tmp_path / "heads.safetensors")
    assert [len(h) for h in load_lpips_heads(tmp_path / "heads.safetensors")] == [
        64,
        128,
        256,
        512,
        512,
    ]
    heads["head_3"][17] = -0.5
    save_file(heads, tmp_path / "heads.safetensors")
    with pytest.raises(CheckpointError, match=r"at least 0, found -0\.5"):
        load_lpips_heads(tmp_path / "heads.safetensors")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"network": "vgg16"}, "needs weights"),
        ({"network": "lpips_vgg16", "weights": "a"}, "needs heads"),
        ({"network": "vgg16", "weights": "a", "heads": "b"}, "reads no heads"),
        ({"weights": "a"}, "reads no weights"),
        ({"network": "alexnet"}, "network"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(values: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        PerceptualConfig.from_mapping(values)


def test_the_configured_distance_is_built_from_its_files(tmp_path: Path) -> None:
    assert create_perceptual_distance(PerceptualConfig()) is None
    weights, heads = tmp_path / "vgg.safetensors", tmp_path / "heads.safetensors"
    tensors = {
        **random_vgg16_tensors(),
        "input_mean": torch.tensor([0.485, 0.456, 0.406]),
        "input_std": torch.tensor([0.229, 0.224, 0.225]),
    }
    save_file(tensors, weights, metadata={"origin": "torchvision's"})
    save_file({f"head_{index}": head for index, head in enumerate(random_heads())}, heads)
    config = PerceptualConfig(network="lpips_vgg16", weights=str(weights), heads=str(heads))
    built = create_perceptual_distance(config)
    assert built is not None
    assert built.name == "LPIPS, torchvision's"
    by_hand = PerceptualDistance(VggFeatures(tensors, origin="random"), heads=random_heads())
    pair = clips(1, 1), clips(1, 1, seed=1)
    torch.testing.assert_close(built(*pair), by_hand(*pair))


def test_heads_on_a_network_they_were_not_trained_on_are_no_lpips(tmp_path: Path) -> None:
    weights, heads = tmp_path / "vgg.safetensors", tmp_path / "heads.safetensors"
    save_file(random_vgg16_tensors(), weights)
    save_file({f"head_{index}": head for index, head in enumerate(random_heads())}, heads)
    config = PerceptualConfig(network="lpips_vgg16", weights=str(weights), heads=str(heads))
    with pytest.raises(CheckpointError, match="not the network that LPIPS's heads"):
        create_perceptual_distance(config)
    alone = create_perceptual_distance(PerceptualConfig(network="vgg16", weights=str(weights)))
    assert alone is not None
    assert alone.name.startswith("VGG distance, ")


@pytest.mark.skipif(
    not REAL_WEIGHTS.is_file(),
    reason=f"{REAL_WEIGHTS} is missing: python jobs/fetch_feature_weights.py makes it",
)
def test_real_weights_rank_distortions_of_a_photograph() -> None:
    data, filters = pytest.importorskip("skimage.data"), pytest.importorskip("skimage.filters")
    photograph = data.astronaut()[64:128, 192:256] / 127.5 - 1
    noise = np.random.default_rng(0).normal(size=photograph.shape)
    rows = {
        "blur": [filters.gaussian(photograph, sigma, channel_axis=2) for sigma in (0.7, 1.5, 3)],
        "noise": [np.clip(photograph + sigma * noise, -1, 1) for sigma in (0.03, 0.1, 0.3)],
    }
    distance = PerceptualDistance(VggFeatures.load(REAL_WEIGHTS))
    original = torch.from_numpy(photograph).float().permute(2, 0, 1)[None, :, None]
    darker_by = original - 0.1
    for kind, distorted in rows.items():
        frames = [torch.from_numpy(row).float().permute(2, 0, 1) for row in distorted]
        found = [distance(original, frame[None, :, None]).item() for frame in frames]
        assert found == sorted(found), kind
        assert found[-1] > 5 * found[0] > 0, kind
        # Of two errors of the same energy, a slightly darker picture looks the better one.
        assert distance(original, darker_by.clamp(-1, 1)).item() < found[1], kind
