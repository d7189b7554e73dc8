"""Makes files outside docs/ pages of the site, and the links to and from them right.

Pages of docs/ link to `../SECURITY.md` and README.md links to `docs/reading.md`, as they must where
people read the repository itself. On the site such files lie in `project/`.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY_FILES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "LOG.md",
    "SECURITY.md",
    "THIRD_PARTY.md",
    "sweettok/tokenizers/natural_64.md",
)
_NOT_SEARCHED = ("project/CHANGELOG.md", "project/LOG.md")
_FOLDER = "project/"
_PATH_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files outside docs/."""
    root = Path(config.config_file_path).parent
    for name in REPOSITORY_FILES:
        path = str(root / name)
        files.append(File.generated(config, _FOLDER + name, abs_src_path=path))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turns links between files of the repository into links between pages."""
    uri = page.file.src_uri
    if uri in _NOT_SEARCHED:
        page.meta["search"] = {"exclude": True}

    def on_site(link: re.Match[str]) -> str:
        target = _site_path(posixpath.join(posixpath.dirname(_repository_path(uri)), link[1]))
        return f"]({posixpath.relpath(target, posixpath.dirname(uri) or '.')}{link[2] or ''})"

    return _PATH_LINK.sub(on_site, markdown)


def _repository_path(uri: str) -> str:
    return uri.removeprefix(_FOLDER) if uri.startswith(_FOLDER) else f"docs/{uri}"


def _site_path(path: str) -> str:
    path = posixpath.normpath(path)
    return _FOLDER + path if path in REPOSITORY_FILES else posixpath.relpath(path, "docs")
