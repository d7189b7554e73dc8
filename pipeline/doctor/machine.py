"""This machine: packages, memory, open files, and the arithmetic that the config asks for."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import torch
from packaging.requirements import Requirement

from pipeline.doctor.finding import Finding, ok
from pipeline.encode_config import EncodeConfig

_DISTRIBUTION = "sweettok"
_SHOWN = ("torch", "ray", "deltalake", "av", "pyarrow")
_LEAST_MEMORY_BYTES = 4 * 2**30
_LEAST_OPEN_FILES = 4096
_INSTALL = "install them with `pip install -e . -c constraints.txt`"


def look_at_packages() -> Iterator[Finding]:
    """Whether every package that this one requires is there, in a version that fits."""
    requirements = [Requirement(text) for text in _requirements()]
    needed = [it for it in requirements if it.marker is None or it.marker.evaluate({"extra": ""})]
    faults = [fault for fault in map(_fault_of, needed) if fault]
    if faults:
        yield Finding("packages", "failed", "; ".join(faults), _INSTALL)
        return
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _SHOWN)
    yield ok("packages", f"Python {platform.python_version()}, {versions}")


def _requirements() -> Sequence[str]:
    try:
        return importlib.metadata.requires(_DISTRIBUTION) or ()
    except importlib.metadata.PackageNotFoundError:  # a job that runs from an uploaded folder
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
        dependencies: list[str] = project["project"]["dependencies"]
        return dependencies


def _fault_of(requirement: Requirement) -> str | None:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} is {version}, needed is {requirement.specifier}"


def look_at_resources() -> Iterator[Finding]:
    """Memory and the number of files that a process may have open."""
    total = psutil.virtual_memory().total
    detail = f"{total / 2**30:.1f} GiB, {psutil.cpu_count()} CPU cores"
    if total < _LEAST_MEMORY_BYTES:
        remedy = "take a machine with 4 GiB or more; Ray alone needs about one"
        yield Finding("memory", "warning", detail, remedy)
    else:
        yield ok("memory", detail)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _LEAST_OPEN_FILES:
        remedy = f"raise it before the job starts: `ulimit -n {_LEAST_OPEN_FILES}` (hard: {hard})"
        yield Finding("open files", "warning", f"{soft} per process", remedy)
    else:
        yield ok("open files", f"{soft} per process")


def look_at_arithmetic(encode: EncodeConfig) -> Iterator[Finding]:
    """The GPU and the precision: does this machine have what `encode` asks for."""
    has_gpu = torch.cuda.is_available()
    wants_gpu = encode.num_gpus(has_gpu=has_gpu) > 0 or encode.precision != "fp32"
    asked = f"encode.precision {encode.precision}, {encode.num_gpus(has_gpu=has_gpu):g} GPUs each"
    if not has_gpu:
        capability = torch.backends.cpu.get_cpu_capability()
        detail = f"no GPU here, CPU with {capability} ({asked})"
        if not wants_gpu:
            yield ok("GPU", detail)
            return
        remedy = (
            "right if the encoders run on other nodes; else install a driver and a torch built for "
            "it, or set encode.precision=fp32 encode.num_gpus_per_actor=0"
        )
        yield Finding("GPU", "warning", detail, remedy)
        return
    name = torch.cuda.get_device_name()
    if encode.precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        remedy = "set encode.precision=fp32, or take a GPU of the Ampere generation or later"
        yield Finding("GPU", "failed", f"{name} does not compute in bf16", remedy)
        return
    yield ok("GPU", f"{name}, CUDA {torch.version.cuda} ({asked})")
