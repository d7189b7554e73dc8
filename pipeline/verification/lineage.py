"""The lineage of a dataset, and the tokenizer that it carries, against each other."""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset import TokenDataset
from pipeline.dataset.creation import FINGERPRINT
from pipeline.errors import DatasetError
from pipeline.verification.findings import CheckResult
from sweettok import Lexicon, SweetTokConfig
from sweettok.errors import SweetTokError
from sweettok.tokenizer_manifest import LEXICON_DIRECTORY, verified_manifest

_RESTORE_FOLDER = (
    "copy the folder back from the tokenizer that made the tokens (its fingerprint is the "
    "lineage's weights_hash); without it the dataset cannot be decoded"
)
_RESTORE_PROPERTY = (
    "restore the table's properties from an older version (deltalake.DeltaTable(uri).restore)"
)


def check_lineage(dataset: TokenDataset, scratch: Path) -> tuple[CheckResult, Path | None]:
    """Checks the lineage and fetches the tokenizer anew, never from a cache.

    Returns:
        The result, and a local directory with the tokenizer if it is intact.
    """
    result = CheckResult("lineage", "tokenizer", num_checked=1)
    lineage = dataset.lineage
    stored = dataset.clips.configuration.get(FINGERPRINT)
    if stored != lineage.fingerprint:
        result.add(
            f"{dataset.uri} property {FINGERPRINT}",
            f"is {stored}, the lineage hashes to {lineage.fingerprint}",
            _RESTORE_PROPERTY,
        )
    where = f"{dataset.uri}/_tokenizer/{lineage.fingerprint}"
    try:
        directory = dataset.tokenizer_files(scratch)
        manifest = verified_manifest(directory)
        found = _facts(directory, manifest["fingerprint"], manifest["config"])
    except (DatasetError, SweetTokError, ValueError) as error:
        result.add(where, str(error), _RESTORE_FOLDER)
        return result, None
    for name, value in found.items():
        expected = getattr(lineage, name)
        if value != expected:
            result.add(where, f"{name} is {value}, the lineage says {expected}", _RESTORE_FOLDER)
    return result, None if result.num_findings else directory


def _facts(directory: Path, fingerprint: str, config: dict[str, object]) -> dict[str, object]:
    """What the tokenizer's own files say of the lineage's fields."""
    sizes = SweetTokConfig.from_mapping(config, origin=str(directory))
    return {
        "weights_hash": fingerprint,
        "codebook_hash": Lexicon.load(directory / LEXICON_DIRECTORY).content_hash,
        "geometry": sizes.geometry,
        "num_spatial_tokens": sizes.num_spatial_tokens,
        "num_temporal_tokens": sizes.num_temporal_tokens,
        "num_spatial_words": sizes.num_spatial_words,
        "num_temporal_words": sizes.num_temporal_words,
    }
