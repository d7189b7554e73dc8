"""What a corpus is made of: files, manifests and tar shards, in any mix."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.storage import StorageConfig
from sweettok.strict_config import StrictConfig

VIDEO_EXTENSIONS = (
    ".3gp",
    ".avi",
    ".flv",
    ".gif",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".webm",
    ".wmv",
)


class ManifestConfig(StrictConfig):
    """A table that names videos, one a row, and what its user knows about them.

    Attributes:
        uri: Parquet, CSV, TSV or JSON lines; a file, a directory of them or a pattern, local or
            remote; text may be compressed.
        format: How it is written; null means what each file's suffix says.
        uri_column: The column that names the video: a URI, an absolute path, or a path relative
            to the manifest.
        size_column: The column with sizes in bytes; null takes "size_bytes" if there is one.
        etag_column: The column with etags; null takes "etag" if there is one.
        mtime_column: The column with modification times, compared as they are written; null takes
            "mtime" if there is one. A row's etag counts before its modification time.
        attributes: Columns that are carried to every clip row; null carries all further ones.
        look_up: Which rows the store is asked about for size and version. "missing": those that
            lack the size, or both etag and modification time; "always": all; "never": none, a
            change behind an unchanged row is then not seen.
    """

    uri: str
    format: Literal["parquet", "csv", "tsv", "jsonl"] | None = None
    uri_column: str = "uri"
    size_column: str | None = None
    etag_column: str | None = None
    mtime_column: str | None = None
    attributes: tuple[str, ...] | None = None
    look_up: Literal["missing", "always", "never"] = "missing"


class ShardConfig(StrictConfig):
    """Tar files in the WebDataset layout: a sample is the members of one name up to its first dot.

    The members with a video's suffix are the videos; the keys of a sample's ".json" members and the
    text of its ".txt" members are carried to every clip row. Shards are read by byte range, never
    unpacked.

    Attributes:
        uris: Shards, directories and patterns, local or remote; "{000..127}" counts.
        text_attribute: Name that the text of a plain ".txt" member gets; "name.caption.txt" is
            called "caption" by itself.
        attributes: Names that are carried; null carries all.
    """

    uris: tuple[str, ...] = ()
    text_attribute: str = "caption"
    attributes: tuple[str, ...] | None = None


class SourceConfig(StrictConfig):
    """Which videos make the corpus: any mix of the first three, in this order.

    A video that comes more than once counts where it comes first.

    Attributes:
        uris: Files, directories (read recursively) and glob patterns, local or remote.
        manifests: Tables that name videos; a plain string stands for a manifest with that URI.
        shards: Tar shards.
        allowed_roots: Where the rows of manifests may point beside their manifest's own folder
            and `uris`: paths and URIs, each with all that lies below it ("/data/videos",
            "s3://bucket/videos", "https://host").
        extensions: Suffixes that directories, patterns and shards are searched for, in any case; a
            file named by itself, or by a manifest, may have any suffix.
        fingerprint: What tells a changed video from an unchanged one: "stat", its size with its
            etag or modification time, or "content", a hash of its bytes, for which every listing
            reads the whole corpus.
        num_threads: Requests that a listing has under way at one time.
        storage: How remote file systems are reached.
    """

    uris: tuple[str, ...] = ()
    manifests: tuple[ManifestConfig, ...] = ()
    shards: ShardConfig = ShardConfig()
    allowed_roots: tuple[str, ...] = ()
    extensions: tuple[str, ...] = Field(default=VIDEO_EXTENSIONS, min_length=1)
    fingerprint: Literal["stat", "content"] = "stat"
    num_threads: int = Field(default=16, ge=1)
    storage: StorageConfig = StorageConfig()

    @field_validator("manifests", mode="before")
    @classmethod
    def _from_uris(cls, manifests: Any) -> Any:
        if not isinstance(manifests, list | tuple):
            return manifests
        return [{"uri": item} if isinstance(item, str) else item for item in manifests]

    @field_validator("extensions")
    @classmethod
    def _check_extensions(cls, extensions: tuple[str, ...]) -> tuple[str, ...]:
        for extension in extensions:
            if not extension.startswith("."):
                raise ValueError(f"{extension!r} must begin with a dot, as in '.mp4'")
        return tuple(extension.lower() for extension in extensions)

    @model_validator(mode="after")
    def _is_not_empty(self) -> SourceConfig:
        if not self.uris and not self.manifests and not self.shards.uris:
            raise ValueError("names no videos: give uris, manifests or shards.uris")
        return self
