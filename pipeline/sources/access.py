"""What the rows of a manifest may name: it is written by others, and read with our rights.

A row can lie in the manifest's own folder, below what `source.uris` names, or below one of
`source.allowed_roots`. Everything else is refused before anybody is asked about it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from pipeline.sources.remote import is_pattern
from pipeline.storage import is_local, is_web, local_path

# Stores and web servers read these in several ways, so that a prefix says nothing.
_ODD = re.compile(r"\\|[\x00-\x1f]|(?:^|/)\.{1,2}(?:/|$)")
_MAGIC = re.compile(r"[*?\[]")
_MOST_FOLDERS = 100_000  # remembered verdicts

_Place = tuple[str, str, tuple[str, ...]]


class AllowedRoots:
    """Places that rows may name, each with everything below it.

    Args:
        roots: Paths and URIs: "/data/videos", "s3://bucket/videos", "https://host".
    """

    def __init__(self, roots: Iterable[str]) -> None:
        self._local = {os.path.realpath(local_path(root)) for root in roots if is_local(root)}
        self._remote = {_place(root) for root in roots if not is_local(root)}
        self._verdicts: dict[str, bool] = {}

    def allow(self, uri: str) -> bool:
        """Whether a row may name `uri`, a canonical one; links are followed to where they lead."""
        if is_local(uri):
            return self._allows_path(local_path(uri))
        location = uri.partition("?")[0].partition("#")[0] if is_web(uri) else uri
        if _is_odd(location):
            return False
        return self._allows_folder(location) or _place(location) in self._remote

    def _allows_path(self, path: str) -> bool:
        if "\0" in path:
            return False
        if self._allows_folder(os.path.dirname(path), is_path=True) and not os.path.islink(path):
            return True
        return self._contains(os.path.realpath(path))

    def _allows_folder(self, location: str, *, is_path: bool = False) -> bool:
        folder = location if is_path else location.rpartition("/")[0]
        verdict = self._verdicts.get(folder)
        if verdict is None:
            if len(self._verdicts) >= _MOST_FOLDERS:
                self._verdicts.clear()
            verdict = self._contains(os.path.realpath(folder)) if is_path else self._holds(folder)
            self._verdicts[folder] = verdict
        return verdict

    def _contains(self, path: str) -> bool:
        return any(path == root or path.startswith(_slashed(root)) for root in self._local)

    def _holds(self, folder: str) -> bool:
        scheme, host, parts = _place(folder)
        return any(
            (scheme, host) == (its_scheme, its_host) and parts[: len(its_parts)] == its_parts
            for its_scheme, its_host, its_parts in self._remote
        )


def root_of(location: str) -> str:
    """What a root of `source.uris` cannot leave: itself, or the fixed folder of a pattern."""
    if not is_pattern(location):
        return location
    return _MAGIC.split(location, maxsplit=1)[0].rpartition("/")[0] or "/"


def folder_of(manifest_uri: str) -> str:
    """The folder in which a manifest lies."""
    if is_local(manifest_uri):
        return os.path.dirname(os.path.abspath(local_path(manifest_uri)))
    return manifest_uri.rpartition("/")[0]


def _is_odd(location: str) -> bool:
    text = unquote(location) if "%" in location else location
    # Three searches in C spare almost every row the expression.
    if "/." not in text and "\\" not in text and text.isprintable():
        return False
    return _ODD.search(text.partition("://")[2]) is not None


def _place(uri: str) -> _Place:
    scheme, _, rest = uri.partition("://")
    if is_web(uri):
        split = urlsplit(uri)
        host, path = split.netloc.lower(), split.path.removeprefix("/")
    else:
        host, _, path = rest.partition("/")
    path = path.rstrip("/")
    return scheme.lower(), host, tuple(path.split("/")) if path else ()


def _slashed(root: str) -> str:
    return root if root.endswith("/") else f"{root}/"
