"""How a table of texts is written, as the name of its file says it."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlparse

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes that text formats may end in besides."""

TABLE_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
"""Formats by suffix."""


def format_suffix(uri: str) -> str:
    """The suffix that names a file's format, in lower case and before that of a compression."""
    path = PurePosixPath(urlparse(uri).path)
    if path.suffix in COMPRESSIONS:
        path = path.with_suffix("")
    return path.suffix.lower()
