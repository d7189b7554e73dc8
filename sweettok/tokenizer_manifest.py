"""What a saved tokenizer says of itself, checked by hashes. Needs no torch.

A process that only looks at a tokenizer, such as the driver of a run, reads this and no weights.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from sweettok.errors import CheckpointError
from sweettok.hub import shipped_names

MANIFEST_FILE = "tokenizer.json"
WEIGHTS_FILE = "model.safetensors"
LEXICON_DIRECTORY = "lexicon"
LEXICON_DOCUMENT = "lexicon.json"

FORMAT_VERSION = 1


def verified_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of a saved tokenizer, every file that it names checked against its hash.

    Raises:
        CheckpointError: There is none, it was edited, or a file is missing or altered.
    """
    manifest = read_manifest(directory)
    for name, expected in manifest["files"].items():
        _verify(Path(directory), name, expected)
    return manifest


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of a saved tokenizer, its fingerprint checked against its own contents.

    Raises:
        CheckpointError: There is none, or it was edited.
    """
    path = Path(directory) / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise CheckpointError(
            f"{directory}: no tokenizer there ({MANIFEST_FILE} missing or unreadable); "
            "give a directory written by save_pretrained or jobs/train_tokenizer.py, or the name "
            f"of a tokenizer that comes with the package ({', '.join(shipped_names())})"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON ({error})") from None
    expected = {"format_version", "architecture", "fingerprint", "config", "files"}
    if not isinstance(manifest, dict) or set(manifest) != expected:
        raise CheckpointError(f"{path}: is not a tokenizer manifest")
    if manifest["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: is of format {manifest['format_version']}, this package reads format "
            f"{FORMAT_VERSION}; load it with the version that wrote it"
        )
    if manifest["fingerprint"] != fingerprint_of(manifest["config"], manifest["files"]):
        raise CheckpointError(f"{path}: was edited (its fingerprint does not fit); restore it")
    return manifest


def codebook_hash(directory: str | Path, manifest: dict[str, Any]) -> str:
    """The content hash of the words of a tokenizer, without loading them.

    Args:
        directory: The tokenizer's.
        manifest: What `verified_manifest` gave of it, so that the hash is not anybody's.

    Raises:
        CheckpointError: Its lexicon does not say.
    """
    name = f"{LEXICON_DIRECTORY}/{LEXICON_DOCUMENT}"
    if name not in manifest["files"]:
        raise CheckpointError(f"{directory}: its manifest does not name {name}; save it again")
    document = json.loads((Path(directory) / name).read_text(encoding="utf-8"))
    return str(document["content_sha256"])


def _verify(directory: Path, name: str, expected: str) -> None:
    path = directory / name
    # By its name alone: the files of the hub's cache are links to a folder beside it.
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise CheckpointError(f"{directory}: its manifest names a file outside it: {name!r}")
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; copy the whole tokenizer directory")
    found = sha256_of(path)
    if found != expected:
        raise CheckpointError(
            f"{path}: sha256 is {found[:12]}…, the manifest promises {expected[:12]}…: the file "
            "was altered or cut short; copy it again"
        )


def fingerprint_of(config: dict[str, Any], files: dict[str, str]) -> str:
    """What tells a tokenizer from all others: of its config and the hashes of its files."""
    text = json.dumps({"config": config, "files": files}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
