"""Tokenizers by hub id: fetched from a server, found in the cache, clear errors without both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from pipeline.sources import SourceConfig
from pipeline.stage_settings import StageSettings
from sweettok import SweetTok
from sweettok.errors import CheckpointError
from sweettok.hub import local_directory
from tests.hub_server import cached_by_hand, hub_server

REPOSITORY = "some-org/word-tokenizer.v1"
LOAD = """
import sys
from sweettok import SweetTok
SweetTok.from_pretrained(sys.argv[1])
print("loaded")
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, where the client looks for it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def load_in_a_process(source: str, home: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", LOAD, source],
        env=os.environ | {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_what_was_fetched_once_needs_no_network(tokenizer_directory: str, tmp_path: Path) -> None:
    served = Path(shutil.copytree(tokenizer_directory, tmp_path / "served"))
    (served / "README.md").write_text("A card.")
    (served / "training_state.pt").write_bytes(b"not asked for")
    with hub_server(REPOSITORY, served) as address:
        first = load_in_a_process(REPOSITORY, tmp_path / "home", HF_ENDPOINT=address)
    assert first.stdout == "loaded\n", first.stderr
    names = {path.name for path in (tmp_path / "home").rglob("*") if path.is_symlink()}
    assert "model.safetensors" in names
    assert not names & {"README.md", "training_state.pt"}
    again = load_in_a_process(REPOSITORY, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert again.stdout == "loaded\n", again.stderr
    other = load_in_a_process(f"{REPOSITORY}@v2", tmp_path / "home", HF_HUB_OFFLINE="1")
    assert other.returncode != 0
    assert "cannot be reached" in other.stderr.splitlines()[-1]


def test_a_cached_tokenizer_is_the_saved_one(
    tokenizer_directory: str, cache: Path, model: SweetTok
) -> None:
    snapshot = cached_by_hand(cache, REPOSITORY, Path(tokenizer_directory))
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    expected = SweetTok.from_pretrained(tokenizer_directory).encode(video)
    for name in (REPOSITORY, f"{REPOSITORY}@main", f"{REPOSITORY}@{snapshot.name}"):
        loaded = SweetTok.from_pretrained(name, local_files_only=True)
        assert loaded.encode(video).equal(expected)


def test_a_cache_that_was_altered_is_refused(tokenizer_directory: str, cache: Path) -> None:
    snapshot = cached_by_hand(cache, REPOSITORY, Path(tokenizer_directory))
    weights = (snapshot / "model.safetensors").resolve()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: sha256 is"):
        SweetTok.from_pretrained(REPOSITORY, local_files_only=True)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: missing"):
        SweetTok.from_pretrained(REPOSITORY, local_files_only=True)


@pytest.mark.usefixtures("cache")
def test_what_is_nowhere_is_said_with_both_ways_out() -> None:
    with pytest.raises(CheckpointError, match=r"no such directory, and the .* hub cannot be"):
        SweetTok.from_pretrained("some-org/unknown", local_files_only=True)
    # Not the form of a hub id: a path that is not there, and nobody is asked for it.
    for path in ("runs/never/trained", "/nowhere/tokenizer", "tokenizer", Path("a/b")):
        with pytest.raises(CheckpointError, match="no tokenizer there"):
            SweetTok.from_pretrained(path)


def test_a_repository_that_the_hub_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with hub_server(REPOSITORY, tmp_path / "served") as address:
        found = load_in_a_process("some-org/other", tmp_path / "home", HF_ENDPOINT=address)
    assert found.returncode != 0
    assert "CheckpointError: some-org/other" in found.stderr
    assert "does not give it" in found.stderr


def test_a_directory_comes_before_the_hub(
    tokenizer_directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tokenizer_directory, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    assert SweetTok.from_pretrained("runs/mine").config.width == 32


def test_a_job_keeps_what_a_branch_was_when_it_began(
    tokenizer_directory: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    name = "some-org/moving"
    snapshot = cached_by_hand(cache, name, Path(tokenizer_directory))
    settings = StageSettings(source=SourceConfig(uris=("videos",)), tokenizer=name)
    assert settings.tokenizer_directory == snapshot
    pushed = snapshot.with_name("b" * 40)
    shutil.copytree(snapshot, pushed, symlinks=True)
    (cache / "models--some-org--moving" / "refs" / "main").write_text(pushed.name)
    assert local_directory(name) == pushed
    assert settings.tokenizer_directory == snapshot
