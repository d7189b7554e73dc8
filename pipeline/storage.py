"""Where inputs live: canonical URIs, file systems, local copies. The one reader through fsspec.

Credentials are never part of a configuration: each file system finds them in its own chain
(environment variables, shared files, instance roles).
"""

from __future__ import annotations

import importlib
import logging
import os
import stat
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import fsspec
from pydantic import Field, field_validator

from pipeline.errors import QuarantineReason, RecordError, SourceError, TransientError
from pipeline.records import ArchiveMember
from pipeline.web_access import guarded_client, refused_address
from sweettok.strict_config import StrictConfig
from sweettok.uri_secrets import is_secret_name, redacted

logger = logging.getLogger(__name__)

_COPY_BLOCK_BYTES = 8 * 2**20
_S3_PROTOCOLS = ("s3", "s3a")
_ResultT = TypeVar("_ResultT")


class StorageConfig(StrictConfig):
    """How remote file systems are reached.

    Attributes:
        endpoint_url: Address of an S3-compatible store; None means the provider's own.
        region: Region of the store.
        anonymous: Read public data without credentials.
        options: Further options of the fsspec file system; secrets are refused.
        attempts: How often a failing read is tried before the video is given up.
        backoff_s: Wait before the second attempt, in seconds; doubles each time.
    """

    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    attempts: int = Field(default=3, ge=1)
    backoff_s: float = Field(default=0.5, ge=0)

    @field_validator("options")
    @classmethod
    def _refuse_secrets(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if is_secret_name(name):
                raise ValueError(
                    f"{name!r} looks like a secret; give credentials through the environment "
                    "(a configuration is stored beside every output)"
                )
        return options


def canonical_uri(location: str | os.PathLike[str]) -> str:
    """The absolute URI of a path or URI, the same for every way of writing it.

    Local paths become "file:///…" with special characters percent-encoded, so that any file name,
    even one that is not text, survives the way there and back. Other URIs stay as they are.
    """
    text = os.fspath(location)
    if "://" in text and not text.startswith("file://"):
        return text
    return Path(os.path.abspath(local_path(text))).as_uri()


def is_local(uri: str) -> bool:
    """Whether `uri` (or plain path) lies on this machine's file systems."""
    return "://" not in uri or uri.startswith("file://")


def is_s3(uri: str) -> bool:
    """Whether `uri` lies in an S3-compatible store."""
    return uri.partition("://")[0] in _S3_PROTOCOLS


def is_web(uri: str) -> bool:
    """Whether `uri` is the address of a web page."""
    return uri.startswith(("http://", "https://"))


def local_path(uri: str) -> str:
    """The path of a "file://…" URI; a plain path (with "~" expanded) stays itself."""
    if not uri.startswith("file://"):
        return os.path.expanduser(uri)
    return os.fsdecode(urllib.parse.unquote_to_bytes(os.fsencode(uri.removeprefix("file://"))))


def normalized_uri(uri: str | Path) -> str:
    """The absolute path of a local root; any other URI without its trailing slashes."""
    text = str(uri)
    return os.path.abspath(local_path(text)) if is_local(text) else text.rstrip("/")


def member_uri(archive_uri: str, name: str) -> str:
    """The URI of the member `name` of a tar shard; the name need not be text."""
    return f"{archive_uri}#{urllib.parse.quote(os.fsencode(name))}"


def archive_of(uri: str) -> tuple[str, str]:
    """The shard and the member's name in a URI made by `member_uri`."""
    archive_uri, _, name = uri.rpartition("#")
    return archive_uri, os.fsdecode(urllib.parse.unquote_to_bytes(name))


def open_filesystem(uri: str, config: StorageConfig) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a remote `uri` and the path of `uri` within it.

    Raises:
        SourceError: The scheme is unknown, or its driver is not installed or refuses an option.
    """
    protocol = uri.partition("://")[0]
    try:
        filesystem: fsspec.AbstractFileSystem = fsspec.filesystem(
            protocol, **_filesystem_options(protocol, config)
        )
    except (ImportError, TypeError, ValueError) as error:
        raise SourceError(f"{uri}: {' '.join(str(error).split())}") from error
    return filesystem, str(filesystem._strip_protocol(uri))


@contextmanager
def open_input(uri: str, config: StorageConfig, **options: Any) -> Iterator[IO[bytes]]:
    """Opens a local or remote file for reading; `options` go to the remote file system's `open`.

    Raises:
        RecordError, TransientError, SourceError: As `typed_read_errors`, within the context too.
    """
    with typed_read_errors(uri):
        if is_local(uri):
            with open(local_path(uri), "rb") as local:
                yield local
            return
        filesystem, path = open_filesystem(uri, config)
        with filesystem.open(path, "rb", **({"cache_type": "readahead"} | options)) as remote:
            yield remote


@contextmanager
def local_copy(
    uri: str,
    config: StorageConfig,
    *,
    max_bytes: int,
    directory: str | None = None,
    member: ArchiveMember | None = None,
) -> Iterator[str]:
    """A local path that holds the bytes of `uri` while the context lasts.

    A local file is its own copy; a remote one, or the byte range of a tar shard that is `member`,
    is copied below `directory` (default: the system's) and removed afterwards.

    Raises:
        RecordError: (stage "read") missing, not permitted, not a regular file, above `max_bytes`,
            a member that its shard does not hold to the end, or unreadable after
            `config.attempts` attempts.
    """
    if member is None and is_local(uri):
        path = local_path(uri)
        _check_readable(path)
        yield path
        return
    suffix = PurePosixPath(archive_of(uri)[1] if member else urllib.parse.urlparse(uri).path).suffix
    with tempfile.NamedTemporaryFile(suffix=suffix, prefix="video-", dir=directory) as copy:

        def download() -> None:
            copy.seek(0)
            copy.truncate()
            if member is None:
                _download(uri, config, copy.file, max_bytes)
            else:
                _copy_member(archive_of(uri)[0], member, config, copy.file, max_bytes)
            copy.flush()

        try:
            with_retries(download, config)
        except TransientError as error:
            raise RecordError(
                QuarantineReason.READ_ERROR, str(error), stage="read"
            ) from error.__cause__
        yield copy.name


def with_retries(action: Callable[[], _ResultT], config: StorageConfig) -> _ResultT:
    """Runs `action`, again after a growing wait while it raises `TransientError`.

    Raises:
        TransientError: The last attempt's, when all have failed.
    """
    for attempt in range(1, config.attempts):
        try:
            return action()
        except TransientError as error:
            wait_s = config.backoff_s * 2 ** (attempt - 1)
            logger.debug("attempt %d failed (%s), next in %.1f s", attempt, error, wait_s)
            time.sleep(wait_s)
    return action()


def _download(uri: str, config: StorageConfig, copy: IO[bytes], max_bytes: int) -> None:
    filesystem, path = open_filesystem(uri, config)
    with typed_read_errors(uri):
        promised_bytes = filesystem.info(path)["size"]
        _check_size(promised_bytes or 0, max_bytes)
        num_bytes = 0
        with filesystem.open(path, "rb", cache_type="readahead") as source:
            while block := source.read(_COPY_BLOCK_BYTES):
                num_bytes += len(block)
                _check_size(num_bytes, max_bytes)
                copy.write(block)
    if promised_bytes is not None and num_bytes != promised_bytes:
        raise TransientError(f"{num_bytes} of {promised_bytes} bytes arrived")


def _copy_member(
    archive_uri: str, member: ArchiveMember, config: StorageConfig, copy: IO[bytes], max_bytes: int
) -> None:
    _check_size(member.size_bytes, max_bytes)
    with open_input(archive_uri, config) as archive:
        num_bytes = sum(copy.write(block) for block in member_blocks(archive, member))
        archive_bytes = archive.seek(0, os.SEEK_END)
    if num_bytes == member.size_bytes:
        return
    if archive_bytes < member.offset_bytes + member.size_bytes:
        raise RecordError(
            QuarantineReason.TRUNCATED,
            f"the shard ends after {num_bytes} of the member's {member.size_bytes} bytes",
            stage="read",
        )
    raise TransientError(f"{num_bytes} of {member.size_bytes} bytes arrived")


def member_blocks(archive: IO[bytes], member: ArchiveMember) -> Iterator[bytes]:
    """The bytes of `member` in an open shard; fewer than promised if the shard ends before."""
    archive.seek(member.offset_bytes)
    remaining = member.size_bytes
    while remaining and (block := archive.read(min(remaining, _COPY_BLOCK_BYTES))):
        remaining -= len(block)
        yield block


def _check_size(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise RecordError(
            QuarantineReason.TOO_LARGE,
            f"{num_bytes} bytes or more, above the limit of {max_bytes}",
            stage="read",
        )


@contextmanager
def typed_read_errors(uri: str) -> Iterator[None]:
    """Turns a driver's exceptions into ours.

    Raises:
        RecordError: The input is missing or forbidden.
        TransientError: Anything that a retry may cure.
        SourceError: There are no credentials at all, which is no single input's fault.
    """
    try:
        yield
    except OSError as error:
        raise _read_failure(error) from error
    except _driver_errors(uri) as error:
        if "Credentials" in type(error).__name__:
            raise SourceError(
                f"{uri}: {redacted(str(error))}; give credentials through the environment, or set "
                "source.storage.anonymous for public data"
            ) from error
        raise TransientError(redacted(f"reading failed: {error}")) from error


def _driver_errors(uri: str) -> tuple[type[Exception], ...]:
    """What the driver of `uri` raises beside `OSError`; imported only when something went wrong."""
    if is_s3(uri):
        return (importlib.import_module("botocore.exceptions").BotoCoreError,)
    return ()


def _read_failure(error: OSError) -> RecordError | TransientError:
    """What a failed read means: lasting for a missing or forbidden file, else worth a retry."""
    detail = redacted(" ".join((error.strerror or str(error)).split())) or type(error).__name__
    refusal = refused_address(error)
    if refusal is not None:
        return RecordError(QuarantineReason.PERMISSION, f"not permitted: {refusal}", stage="read")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return RecordError(QuarantineReason.NOT_FOUND, f"not found: {detail}", stage="read")
    if isinstance(error, PermissionError):
        return RecordError(QuarantineReason.PERMISSION, f"not permitted: {detail}", stage="read")
    return TransientError(f"reading failed: {detail}")


def _check_readable(path: str) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise RecordError(QuarantineReason.READ_ERROR, "not a regular file", stage="read")
        # Opening is the only test that knows of access lists and read-only mounts alike.
        with open(path, "rb"):
            pass
    except OSError as error:
        failure = _read_failure(error)
        if isinstance(failure, TransientError):
            failure = RecordError(QuarantineReason.READ_ERROR, str(failure), stage="read")
        raise failure from error


def _filesystem_options(protocol: str, config: StorageConfig) -> dict[str, Any]:
    # A worker lives long: a remembered listing would hide that an input has changed.
    options: dict[str, Any] = {"use_listings_cache": False, **config.options}
    if protocol in _S3_PROTOCOLS:
        client: dict[str, Any] = {}
        if config.region is not None:
            client["region_name"] = config.region
        if config.endpoint_url is not None:
            options["endpoint_url"] = config.endpoint_url
            # Stores outside the provider's own rarely resolve bucket names as host names.
            options["config_kwargs"] = {"s3": {"addressing_style": "path"}}
        options["client_kwargs"] = client
    if protocol in ("http", "https"):
        options["get_client"] = guarded_client
    if config.anonymous:
        options["anon"] = True
    return options
