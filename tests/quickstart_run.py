"""One run of `make quickstart`, as a newcomer types it, for all tests that look at its results.

Every path that the documentation's commands name is relative, so they are redirected by running
them elsewhere: in a folder that looks like the repository but has a `runs/` of its own. Its code
and its downloaded samples are the repository's; its `.venv` is the environment of the tests, marked
as installed.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.job_runs import REPOSITORY, job_environment

_SHARED = ("Makefile", "configs", "constraints.txt", "data", "jobs", "pyproject.toml")
_LONGEST_RUN_S = 550


@dataclass(frozen=True)
class Newcomer:
    """Somebody with a fresh clone who has run `make quickstart` in it.

    Attributes:
        folder: The clone.
        quickstart: How that command ended.
    """

    folder: Path
    quickstart: subprocess.CompletedProcess[str]

    def types(self, commands: str) -> subprocess.CompletedProcess[str]:
        """What comes of commands typed into a shell in the clone; the first failure ends them."""
        return _typed(self.folder, commands)


@pytest.fixture(scope="session")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """The one run; tests may add to its folder."""
    folder = tmp_path_factory.mktemp("clone")
    _lay_out(folder)
    done = _typed(folder, "make quickstart")
    assert done.returncode == 0, done.stdout + done.stderr
    return Newcomer(folder, done)


def _lay_out(folder: Path) -> None:
    (REPOSITORY / "data").mkdir(exist_ok=True)
    for name in _SHARED:
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if not entry.name.endswith("-installed"):
            (folder / ".venv" / entry.name).symlink_to(entry)
    (folder / ".venv" / ".run-installed").touch()  # newer than what it was installed from


def _typed(folder: Path, commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-ec", commands],
        cwd=folder,
        env=job_environment(),
        capture_output=True,
        text=True,
        timeout=_LONGEST_RUN_S,
        check=False,
    )
