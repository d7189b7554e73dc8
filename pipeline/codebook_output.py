"""Where a codebook is written: with its configuration beside it, once, and over nothing else.

A directory of `jobs/build_codebook.py` holds the two files of the lexicon, `config.yaml` and
`codebook_recipe.json`: what the lexicon was built of, by which a second run knows that nothing is
left to do. Sources are known by the names, sizes and versions of their files, not by their bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.setting_differences import setting_differences
from pipeline.storage import is_local, local_path
from pipeline.whole_files import new_directory
from sweettok.errors import ConfigError
from sweettok.lexicon import Lexicon
from sweettok.lexicon_artifact import holds_lexicon

CONFIG_FILE = "config.yaml"
RECIPE_FILE = "codebook_recipe.json"


def output_directory(output: str) -> Path:
    """The directory that `output` names, links resolved; it need not be there.

    Raises:
        ConfigError: It is remote, or a file.
    """
    if not is_local(output):
        raise ConfigError(f"output: {output} is remote; name a local directory")
    directory = Path(os.path.realpath(local_path(output)))
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"output: {output} is a file; name a directory, made if need be")
    return directory


def is_built(directory: Path, recipe: dict[str, Any]) -> bool:
    """Whether `directory` holds the codebook of this recipe; False if there is nothing yet.

    Raises:
        PipelineError: It holds a codebook of another recipe, or something else.
    """
    if not directory.exists() or not any(directory.iterdir()):
        return False
    recipe_file = directory / RECIPE_FILE
    if not holds_lexicon(directory):
        raise PipelineError(
            f"{directory}: is there already and holds no codebook of this job; choose another "
            "output or an empty directory"
        )
    if not recipe_file.is_file():
        raise PipelineError(
            f"{directory}: holds a codebook that this job did not build there; choose another "
            "output"
        )
    try:
        found = json.loads(recipe_file.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PipelineError(
            f"{recipe_file}: is damaged; delete the directory or choose another output"
        )
    if found != recipe:
        raise PipelineError(
            f"{directory} holds a codebook of other settings or sources:\n"
            f"{setting_differences(found, recipe)}\n"
            "choose another output, delete that directory, or restore the settings"
        )
    return True


def check_writable(directory: Path) -> None:
    """Refuses a directory that cannot be made.

    Raises:
        ConfigError: Something above it is a file or may not be written to.
    """
    above = directory.parent
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise ConfigError(f"output: {directory} cannot be made, {above} is a file; name another")
    try:  # the only test that knows of access lists and read-only mounts alike
        tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=above).cleanup()
    except OSError as error:
        raise ConfigError(
            f"output: {directory} cannot be made, {above} cannot be written to "
            f"({error.strerror}); name another"
        ) from None


def install_codebook(
    lexicon: Lexicon, directory: Path, *, config_yaml: str, recipe: dict[str, Any]
) -> None:
    """Puts everything in place in one step: a directory that is there is complete."""
    with new_directory(directory) as partial:
        lexicon.save(partial)
        (partial / CONFIG_FILE).write_text(config_yaml, encoding="utf-8")
        text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
        (partial / RECIPE_FILE).write_text(text, encoding="utf-8")


def describe_files(files: Iterable[tuple[str, int, str]]) -> str:
    """Number, size and a hash of files, each given by name, size in bytes and version."""
    rows = sorted(files)
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    num_bytes = sum(size for _, size, _ in rows)
    return f"{len(rows):,} files of {num_bytes:,} bytes, names and versions {digest}"


def describe_local_files(paths: Iterable[Path]) -> str:
    """The same of local files; those that are not there are left out."""
    found = [(str(path), path.stat()) for path in paths if path.is_file()]
    return describe_files((name, status.st_size, str(status.st_mtime_ns)) for name, status in found)
