"""Commits that either happened or did not, whatever the store's answer was.

A commit is a compare-and-swap: it succeeds only on top of the version that was last read. The
library's own retry is switched off (`max_commit_retries=0`): it re-submits a commit on top of
another one without asking whether the same rows are already there, and it lets a file be removed
that a concurrent compaction has already replaced.

The reply to a commit can be lost. Every commit therefore carries a number of its own, and after a
failure the newer versions are searched for it: what is found there has happened.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    DeltaProtocolError,
    SchemaMismatchError,
)
from deltalake.transaction import AddAction, CommitProperties, RemoveAction

from pipeline.errors import DatasetError, TransientError

DEFAULT_ATTEMPTS = 50
COMMIT_ID = "sweettok.commit"

_LONGEST_WAIT_S = 2.0
_STORE_ATTEMPTS = 10
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ResultT = TypeVar("_ResultT")


class CommitConflictError(TransientError):
    """Somebody else committed first; refresh and decide again."""


class StoreFailureError(DatasetError, TransientError):
    """The store failed in a way that the next attempt, on a newer state, may not see."""


class Refreshable(Protocol):
    """What can move on to its newest state."""

    @property
    def uri(self) -> str:
        """Its place, for messages."""

    def refresh(self) -> None:
        """Moves on to the newest state."""


@contextmanager
def dataset_errors(uri: str) -> Iterator[None]:
    """Turns what the storage and the Delta library raise into a readable `DatasetError`.

    Raises:
        StoreFailureError: A file is not there (any more).
        DatasetError: Everything else.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise StoreFailureError(f"{uri}: {one_line(error)}") from error
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise DatasetError(f"{uri}: {one_line(error)}") from error


def on_store(uri: str, action: Callable[[], _ResultT]) -> _ResultT:
    """Runs `action`, which does no harm twice, again while answers of the store break off.

    The Delta library repeats requests that fail by itself, but not one whose answer was cut in the
    middle of its body.

    Raises:
        DatasetError: As `dataset_errors`.
    """
    for attempt in range(1, _STORE_ATTEMPTS):
        try:
            with dataset_errors(uri):
                return action()
        except DatasetError as error:
            if not _broke_off(error):
                raise
            time.sleep(random.uniform(0, min(_LONGEST_WAIT_S, 0.1 * 2**attempt)))
    with dataset_errors(uri):
        return action()


def _broke_off(error: Exception) -> bool:
    # An answer may also break off after the library has repeated the request for another reason.
    text = str(error)
    is_exhausted = "max_retries" in text and "response body error" not in text
    return "HTTP error" in text and not is_exhausted


@contextmanager
def commit_errors(uri: str) -> Iterator[None]:
    """Tells apart why a change of a table's log failed.

    Raises:
        CommitConflictError: Somebody else committed first.
        DatasetError: The table can never take the change.
        StoreFailureError: Anything else; whether the commit happened is not known.
    """
    try:
        yield
    except CommitFailedError as error:
        raise CommitConflictError(f"{uri}: {one_line(error)}") from None
    except (DeltaProtocolError, SchemaMismatchError) as error:
        raise DatasetError(f"{uri}: {one_line(error)}") from error
    except (DeltaError, OSError) as error:
        raise StoreFailureError(f"{uri}: {one_line(error)}") from error


def commit_actions(
    table: DeltaTable,
    actions: Sequence[AddAction | RemoveAction],
    schema: pa.Schema,
    metadata: Mapping[str, str],
) -> None:
    """Commits `actions` on top of the version that `table` is at; `table` stays there.

    Raises:
        CommitConflictError: The table has moved on.
        StoreFailureError: The store failed, and the commit has not happened.
        DatasetError: The table refuses the actions.
    """
    commit_id = uuid.uuid4().hex
    version = table.version()
    properties = CommitProperties(
        custom_metadata={**metadata, COMMIT_ID: commit_id}, max_commit_retries=0
    )
    uri = table.table_uri
    try:
        with commit_errors(uri):
            table.create_write_transaction(
                list(actions), "append", schema, commit_properties=properties
            )
    except TransientError as error:
        if _has_happened(table, version, commit_id):
            return
        if table.version() == version:
            raise StoreFailureError(str(error)) from error  # nobody else was in the way
        raise


def on_newest_state(
    target: Refreshable, step: Callable[[], _ResultT], attempts: int = DEFAULT_ATTEMPTS
) -> _ResultT:
    """Refreshes `target` and runs `step` until no other writer gets in between.

    Raises:
        DatasetError: Other writers won every attempt, or the store keeps failing.
    """
    num_failures = 0
    for attempt in range(attempts):
        try:
            target.refresh()
            return step()
        except CommitConflictError:
            pass
        except StoreFailureError:
            num_failures += 1
            if num_failures == min(attempts, _STORE_ATTEMPTS):
                raise
        time.sleep(random.uniform(0, min(_LONGEST_WAIT_S, 0.05 * 2**attempt)))
    raise DatasetError(
        f"{target.uri}: other writers committed first {attempts} times in a row; write with fewer "
        "processes, or raise commit.attempts"
    )


def one_line(error: Exception) -> str:
    """The message of an error without line breaks and colours, at most 500 characters."""
    return " ".join(_COLOUR.sub("", str(error)).split())[:500] or type(error).__name__


def _has_happened(table: DeltaTable, version: int, commit_id: str) -> bool:
    on_store(table.table_uri, table.update_incremental)
    num_newer = table.version() - version
    newer = on_store(table.table_uri, lambda: table.history(num_newer)) if num_newer else []
    return any(entry.get(COMMIT_ID) == commit_id for entry in newer)
