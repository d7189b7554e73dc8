"""Tokenizers by name: those that come with the package, and those of the Hugging Face hub.

    SweetTok.from_pretrained("natural_64")                     # sweettok/tokenizers/natural_64

The directory that `save_pretrained` writes is the layout of both.

    hf upload my-org/my-tokenizer runs/train_base/tokenizer
    SweetTok.from_pretrained("my-org/my-tokenizer")            # or "my-org/my-tokenizer@v1.0"

What was fetched once is found again in the hub's cache without a network. `HF_HUB_OFFLINE=1` never
asks for one; `HF_HOME` says where the cache is; private repositories take `HF_TOKEN`.
"""

from __future__ import annotations

import re
from pathlib import Path

from sweettok.errors import CheckpointError

SHIPPED_DIRECTORY = Path(__file__).parent / "tokenizers"
"""Tokenizers that come with the package, each with its `MODEL_CARD.md`."""

_SHIPPED_NAME = re.compile(r"\w+")
_HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?")
# Nothing else of a repository is fetched, whatever it holds.
_FILES = ["tokenizer.json", "model.safetensors", "lexicon/*"]


def local_directory(source: str | Path, *, local_files_only: bool = False) -> Path:
    """Where a saved tokenizer lies: `source` itself, or what the hub gives under that id.

    Args:
        source: A directory, whether it is there or not; or, where no such path is, the name of a
            tokenizer that comes with the package, or "owner/name" or "owner/name@revision" with a
            branch, a tag or a commit.
        local_files_only: Never ask for a network.

    Raises:
        CheckpointError: There is no such repository or revision, it cannot be reached and was not
            fetched before, or `huggingface_hub` is not installed.
    """
    if isinstance(source, Path) or Path(source).exists():
        return Path(source)
    if _SHIPPED_NAME.fullmatch(source) and (SHIPPED_DIRECTORY / source).is_dir():
        return SHIPPED_DIRECTORY / source
    if _HUB_ID.fullmatch(source):
        return _fetched(source, local_files_only)
    return Path(source)


def shipped_names() -> tuple[str, ...]:
    """Names of the tokenizers that come with the package."""
    return tuple(sorted(path.parent.name for path in SHIPPED_DIRECTORY.glob("*/tokenizer.json")))


def _fetched(hub_id: str, local_files_only: bool) -> Path:
    found = _HUB_ID.fullmatch(hub_id)
    assert found is not None, hub_id
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError:
        raise CheckpointError(
            f"{hub_id}: there is no such directory, and a tokenizer of the Hugging Face hub needs "
            "huggingface_hub (pip install huggingface_hub)"
        ) from None
    try:
        return Path(
            snapshot_download(
                found["repository"],
                revision=found["revision"],
                allow_patterns=_FILES,
                local_files_only=local_files_only,
            )
        )
    except LocalEntryNotFoundError:
        raise CheckpointError(
            f"{hub_id}: there is no such directory, and the Hugging Face hub cannot be reached "
            "from here (or HF_HUB_OFFLINE is set); give a directory, fetch it where there is a "
            f"network (hf download {found['repository']}) or copy that cache (HF_HOME)"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{hub_id}: there is no such directory, and the Hugging Face hub does not give it: "
            f"{reason}; check owner, name and revision, and HF_TOKEN for a private one"
        ) from None
