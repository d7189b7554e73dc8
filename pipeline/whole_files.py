"""Local files and directories that are whole or not there: made beside their place, then moved."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file; a stopped run leaves no half one under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Gives a path to make and fill, which becomes `target` in one step when the block ends well.

    Raises:
        OSError: `target` is there and is not empty.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    yield partial
    if target.exists():
        target.rmdir()  # empty, or something else came in between: then this refuses
    os.replace(partial, target)


@contextmanager
def replaced_directory(target: Path) -> Iterator[Path]:
    """As `new_directory`, but what `target` held before gives way once the block has ended well."""
    earlier = target.with_name(f".{target.name}.replaced")
    with new_directory(target) as partial:
        yield partial
        shutil.rmtree(earlier, ignore_errors=True)
        if target.exists():
            os.replace(target, earlier)
    shutil.rmtree(earlier, ignore_errors=True)
