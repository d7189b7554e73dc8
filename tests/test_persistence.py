"""Saving and loading a tokenizer: exact, complete, and refusing what was altered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sweettok import SweetTok
from sweettok.errors import CheckpointError
from sweettok.tokenizer_manifest import MANIFEST_FILE, WEIGHTS_FILE, read_manifest


@pytest.fixture
def saved(tokenizer_directory: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokenizer_directory, tmp_path / "tokenizer"))


def test_a_loaded_tokenizer_is_the_saved_one_to_the_last_bit(
    model: SweetTok, tmp_path: Path
) -> None:
    fingerprint = model.save_pretrained(tmp_path / "a")
    loaded = SweetTok.from_pretrained(tmp_path / "a")
    video = torch.rand(2, 3, 9, 32, 48) * 2 - 1
    assert loaded.encode(video).equal(model.encode(video))
    assert torch.equal(loaded(video).reconstruction, model(video).reconstruction)
    assert loaded.save_pretrained(tmp_path / "b") == fingerprint
    for name in ("tokenizer.json", "model.safetensors", "lexicon/lexicon.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_training_on_changes_thefingerprint_of(model: SweetTok, tmp_path: Path) -> None:
    before = model.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        model.decoder.heads.tubes.bias.add_(1)
    assert model.save_pretrained(tmp_path / "a") != before


@pytest.mark.parametrize("name", [WEIGHTS_FILE, "lexicon/vectors.safetensors"])
def test_one_flipped_byte_is_found(saved: Path, name: str) -> None:
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}.*altered"):
        SweetTok.from_pretrained(saved)


@pytest.mark.parametrize("name", [MANIFEST_FILE, WEIGHTS_FILE, "lexicon/lexicon.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"{Path(name).name}.*missing"):
        SweetTok.from_pretrained(saved)


def test_an_edited_manifest_is_refused(saved: Path) -> None:
    path = saved / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    manifest["config"]["width"] = 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="was edited"):
        SweetTok.from_pretrained(saved)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        SweetTok.from_pretrained(saved)


def test_weights_of_another_architecture_are_refused(saved: Path, model: SweetTok) -> None:
    from sweettok.persistence import load_weights

    state = safetensors.torch.load_file(saved / WEIGHTS_FILE)
    state["decoder.surplus"] = torch.zeros(1)
    safetensors.torch.save_file(state, saved / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match="surplus"):
        load_weights(model, saved / WEIGHTS_FILE)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "lexicon/../../secret"])
def test_the_manifest_cannot_lead_outside_its_directory(saved: Path, name: str) -> None:
    from sweettok.tokenizer_manifest import fingerprint_of

    path = saved / MANIFEST_FILE
    manifest = read_manifest(saved)
    manifest["files"][name] = "0" * 64
    manifest["fingerprint"] = fingerprint_of(manifest["config"], manifest["files"])
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="outside"):
        SweetTok.from_pretrained(saved)
