"""A tokenizer on disk: config and hashes in JSON, weights in safetensors, the lexicon beside them.

    tokenizer.json      format version, config, sha256 of every other file, fingerprint
    model.safetensors   parameters and the stored codes of both codebooks
    lexicon/            the words (see sweettok/lexicon.py)

`tokenizer.json` is written last, so a directory that has it is complete. Loading is strict: every
hash is checked, every tensor must be there, none may be left over.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch

from sweettok.config import SweetTokConfig
from sweettok.errors import CheckpointError, ConfigError, LexiconError
from sweettok.lexicon import Lexicon

if TYPE_CHECKING:
    from sweettok.model import SweetTok

MANIFEST_FILE = "tokenizer.json"
WEIGHTS_FILE = "model.safetensors"
LEXICON_DIRECTORY = "lexicon"

_FORMAT_VERSION = 1


def save_tokenizer(model: SweetTok, directory: str | Path) -> str:
    """Writes `model` into `directory` (made if need be); returns its fingerprint."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST_FILE).unlink(missing_ok=True)
    model.refresh_codes()
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    _write_atomically(directory / WEIGHTS_FILE, safetensors.torch.save(state))
    model.lexicon.save(directory / LEXICON_DIRECTORY)
    files = {
        path.relative_to(directory).as_posix(): _sha256(path)
        for path in (directory / WEIGHTS_FILE, *sorted((directory / LEXICON_DIRECTORY).iterdir()))
    }
    config = model.config.to_mapping()
    fingerprint = _fingerprint(config, files)
    manifest = {
        "format_version": _FORMAT_VERSION,
        "architecture": type(model).__name__,
        "fingerprint": fingerprint,
        "config": config,
        "files": files,
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    _write_atomically(directory / MANIFEST_FILE, text.encode())
    return fingerprint


def load_tokenizer(model_class: type[SweetTok], directory: str | Path) -> SweetTok:
    """Loads what `save_tokenizer` wrote, in inference mode.

    Raises:
        CheckpointError: A file is missing, was altered, or does not fit the architecture.
    """
    directory = Path(directory)
    manifest = verified_manifest(directory)
    if manifest["architecture"] != model_class.__name__:
        raise CheckpointError(
            f"{directory}: holds a {manifest['architecture']}, not a {model_class.__name__}; "
            f"load it with {manifest['architecture']}.from_pretrained"
        )
    try:
        config = SweetTokConfig.from_mapping(manifest["config"], origin=f"{directory}: config")
        model = model_class(config, Lexicon.load(directory / LEXICON_DIRECTORY))
    except (ConfigError, LexiconError) as error:
        raise CheckpointError(f"{directory}: {error}") from None
    load_weights(model, directory / WEIGHTS_FILE)
    return model.eval()


def load_weights(model: SweetTok, path: Path) -> None:
    """Loads a weights file strictly; the stored codes are used as saved, not recomputed.

    Raises:
        CheckpointError: A tensor is missing, left over, or of another shape.
    """
    try:
        state = safetensors.torch.load_file(path)
        model.load_state_dict(state, strict=True)
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: does not fit the model ({reason})") from None
    for quantizer in (model.spatial_quantizer, model.temporal_quantizer):
        quantizer.codebook.trust_stored_codes()


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
            "give a directory written by save_pretrained or jobs/train_tokenizer.py"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON ({error})") from None
    expected = {"format_version", "architecture", "fingerprint", "config", "files"}
    if not isinstance(manifest, dict) or set(manifest) != expected:
        raise CheckpointError(f"{path}: is not a tokenizer manifest")
    if manifest["format_version"] != _FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: is of format {manifest['format_version']}, this package reads format "
            f"{_FORMAT_VERSION}; load it with the version that wrote it"
        )
    if manifest["fingerprint"] != _fingerprint(manifest["config"], manifest["files"]):
        raise CheckpointError(f"{path}: was edited (its fingerprint does not fit); restore it")
    return manifest


def _verify(directory: Path, name: str, expected: str) -> None:
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise CheckpointError(f"{directory}: its manifest names a file outside it: {name!r}")
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; copy the whole tokenizer directory")
    found = _sha256(path)
    if found != expected:
        raise CheckpointError(
            f"{path}: sha256 is {found[:12]}…, the manifest promises {expected[:12]}…: the file "
            "was altered or cut short; copy it again"
        )


def _fingerprint(config: dict[str, Any], files: dict[str, str]) -> str:
    text = json.dumps({"config": config, "files": files}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_atomically(path: Path, payload: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
