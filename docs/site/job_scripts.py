"""What the scripts in jobs/ say of themselves: their `--help`, and the settings that they take."""

from __future__ import annotations

import importlib.util
import io
import os
import runpy
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sweettok.strict_config import StrictConfig

_HELP_COLUMNS = "100"


@dataclass(frozen=True)
class JobScript:
    """One job.

    Attributes:
        name: That of its file, without the suffix.
        summary: The first line of its description.
        help: What `--help` prints.
        config_class: What `--config` is read into; None if it takes no configuration.
    """

    name: str
    summary: str
    help: str
    config_class: type[StrictConfig] | None


@cache
def read_jobs(folder: Path) -> list[JobScript]:
    """All jobs, by name; the first call imports the whole project."""
    return [_read(path) for path in sorted(folder.glob("*.py"))]


def _read(path: Path) -> JobScript:
    spec = importlib.util.spec_from_file_location(f"job_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    summary = (module.__doc__ or "").partition("\n")[0].partition(": python jobs/")[0]
    config_class = typing.get_type_hints(module.main).get("config")
    return JobScript(path.stem, summary.rstrip("."), _help(path), config_class)


def _help(path: Path) -> str:
    printed = io.StringIO()
    with _command_line(str(path), "--help"), redirect_stdout(printed):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"{path} --help ends with {end.code}") from end
    return printed.getvalue().rstrip()


@contextmanager
def _command_line(*arguments: str) -> Iterator[None]:
    before, columns = sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = list(arguments), _HELP_COLUMNS
    try:
        yield
    finally:
        sys.argv = before
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
