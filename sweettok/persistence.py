"""A tokenizer on disk: config and hashes in JSON, weights in safetensors, the lexicon beside them.

    tokenizer.json      format version, config, sha256 of every other file, fingerprint
    model.safetensors   parameters and the stored codes of both codebooks
    lexicon/            the words (see sweettok/lexicon.py)

`tokenizer.json` is written last, so a directory that has it is complete. Loading is strict: every
hash is checked, every tensor must be there, none may be left over.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch

from sweettok.config import SweetTokConfig
from sweettok.errors import CheckpointError, ConfigError, LexiconError
from sweettok.hub import local_directory
from sweettok.lexicon import Lexicon
from sweettok.tokenizer_manifest import (
    FORMAT_VERSION,
    LEXICON_DIRECTORY,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    fingerprint_of,
    sha256_of,
    verified_manifest,
)

if TYPE_CHECKING:
    from sweettok.model import SweetTok


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
        path.relative_to(directory).as_posix(): sha256_of(path)
        for path in (directory / WEIGHTS_FILE, *sorted((directory / LEXICON_DIRECTORY).iterdir()))
    }
    config = model.config.to_mapping()
    fingerprint = fingerprint_of(config, files)
    manifest = {
        "format_version": FORMAT_VERSION,
        "architecture": type(model).__name__,
        "fingerprint": fingerprint,
        "config": config,
        "files": files,
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    _write_atomically(directory / MANIFEST_FILE, text.encode())
    return fingerprint


def load_tokenizer(
    model_class: type[SweetTok], source: str | Path, *, local_files_only: bool = False
) -> SweetTok:
    """Loads what `save_tokenizer` wrote, in inference mode.

    Args:
        model_class: What it must be.
        source: A directory, or the id of a repository of the Hugging Face hub that holds one.
        local_files_only: Never ask the hub, take what was fetched before.

    Raises:
        CheckpointError: A file is missing, was altered, or does not fit the architecture; or the
            hub does not give it.
    """
    directory = local_directory(source, local_files_only=local_files_only)
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


def _write_atomically(path: Path, payload: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
