"""What `ray job submit` sends: little, whole, and with the packages that the project asks for."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from zipfile import ZipFile

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

from tests.job_runs import REPOSITORY

# Code, configs and the shipped lexicon; the weights that are shipped come on top.
MAX_CODE_BYTES = 8 * 2**20
MAX_WEIGHTS_BYTES = 40 * 2**20
RUNTIME_ENV = REPOSITORY / "configs" / "deploy" / "runtime_env.yaml"
# What lies about in a folder that is worked in, and what of the repository no job reads.
JUNK = (
    ".git/objects/pack", ".venv/lib/torch.so", ".rayignore~", ".mypy_cache/x", ".env", "LOG.md",
    "data/videos/a.mp4", "runs/best/model.safetensors", "tests/data/a.mp4", "docs/page.png",
    "build/x.whl", "notes/secret.txt", "core.1234", "pipeline/__pycache__/engine.pyc",
)  # fmt: skip


def uploaded(folder: Path, archive: Path) -> dict[str, int]:
    """The files that Ray would send of `folder`, with their sizes in bytes."""
    excludes = get_runtime_env_default_excludes()
    create_package(str(folder), archive, include_gitignore=True, excludes=excludes)
    with ZipFile(archive) as package:
        return {info.filename: info.file_size for info in package.infolist()}


def test_the_upload_is_small_and_has_all_that_jobs_run_from(tmp_path: Path) -> None:
    files = uploaded(REPOSITORY, tmp_path / "upload.zip")
    assert {name.split("/")[0] for name in files} <= {
        "configs", "jobs", "pipeline", "pyproject.toml", "sweettok"
    }  # fmt: skip
    weights = sum(size for name, size in files.items() if _is_weights(name))
    assert weights < MAX_WEIGHTS_BYTES
    assert (tmp_path / "upload.zip").stat().st_size - weights < MAX_CODE_BYTES
    tracked = subprocess.run(
        ["git", "ls-files", "configs", "jobs", "pipeline", "sweettok", "pyproject.toml"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert len(tracked) > 200
    assert set(tracked) <= files.keys()


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors") and "/lexicons/" not in name


def test_nothing_that_lies_about_travels(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    folder.mkdir()
    for ignored in (".gitignore", ".rayignore"):
        shutil.copy(REPOSITORY / ignored, folder)
    needed = ("configs/deploy/a.yaml", "jobs/a.py", "pipeline/b/c.py", "sweettok/lexicons/x/v.json",
              "sweettok/tokenizers/small/model.safetensors", "pyproject.toml")  # fmt: skip
    for name in (*needed, *JUNK):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "more_videos").symlink_to(folder / "data", target_is_directory=True)
    assert set(uploaded(folder, tmp_path / "upload.zip")) == set(needed)


def pins() -> dict[str, Requirement]:
    """The packages of the runtime environment by their canonical names."""
    packages = yaml.safe_load(RUNTIME_ENV.read_text())["pip"]["packages"]
    requirements = [Requirement(text) for text in packages]
    assert all(len(it.specifier) == 1 and "==" in str(it.specifier) for it in requirements)
    return {canonicalize_name(it.name): it for it in requirements}


def test_the_runtime_environment_has_every_package_that_the_project_asks_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = {canonicalize_name(it.name): it for it in map(Requirement, project["dependencies"])}
    ray = asked.pop("ray")
    # What every `ray[default]` has, that is every cluster with a dashboard, need not be asked for.
    of_ray = set[str]().union(*map(_packages_of_ray, ray.extras)) - _packages_of_ray("default")
    given = pins()
    assert given.keys() == asked.keys() | of_ray
    for name, requirement in asked.items():
        version = str(given[name].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), name
        assert str(given[name].marker) == str(requirement.marker), name


def _packages_of_ray(extra: str) -> set[str]:
    requirements = map(Requirement, importlib.metadata.requires("ray") or ())
    return {
        canonicalize_name(it.name)
        for it in requirements
        if it.marker is not None and it.marker.evaluate({"extra": extra})
    }


def test_its_versions_are_those_that_are_tested_together() -> None:
    locked = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.M)
    )
    locked = {canonicalize_name(name): version for name, version in locked.items()}
    for name, requirement in pins().items():
        assert str(requirement.specifier) == f"=={locked[name]}", name
