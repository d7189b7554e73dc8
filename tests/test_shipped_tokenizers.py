"""Tokenizers that come with the package: found by name, whole, small, and described."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.stage_settings import StageSettings
from sweettok import SweetTok
from sweettok.errors import CheckpointError
from sweettok.hub import SHIPPED_DIRECTORY, local_directory, shipped_names
from sweettok.tokenizer_manifest import verified_manifest

MAX_BYTES = 40_000_000


def test_there_is_one_at_least() -> None:
    assert "natural_64" in shipped_names()


@pytest.mark.parametrize("name", shipped_names())
def test_a_name_gives_a_tokenizer_that_works(name: str) -> None:
    tokenizer = SweetTok.from_pretrained(name)
    geometry = tokenizer.config.geometry
    shape = (1, 3, geometry.num_frames, geometry.height_px, geometry.width_px)
    ramp = torch.linspace(-1, 1, geometry.width_px).expand(shape)
    tokens = tokenizer.encode(ramp)
    assert tokens.spatial.shape == (1, tokenizer.config.num_spatial_tokens)
    # It has learned to see: grey would be off by a half.
    assert (tokenizer.decode(tokens) - ramp).abs().mean() < 0.25
    assert tokenizer.words(tokens)[0].spatial[0].word


@pytest.mark.parametrize("name", shipped_names())
def test_files_are_few_whole_and_described(name: str) -> None:
    folder = SHIPPED_DIRECTORY / name
    verified_manifest(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt", ""}
    # Beside the folder, not in it: a dataset carries the folder, and would refuse another text.
    card = (SHIPPED_DIRECTORY / f"{name}.md").read_text(encoding="utf-8")
    for part in ("## Data", "## Training", "## Figures", "## Licence", "## Limits"):
        assert part in card, part


def test_a_path_of_that_name_comes_first_and_other_names_are_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_directory("natural_64") == SHIPPED_DIRECTORY / "natural_64"
    (tmp_path / "natural_64").mkdir()
    assert local_directory("natural_64") == Path("natural_64")
    assert local_directory("natural_65") == Path("natural_65")
    with pytest.raises(CheckpointError, match="natural_65: no tokenizer there"):
        SweetTok.from_pretrained("natural_65")


def test_the_settings_of_a_corpus_take_a_name() -> None:
    settings = StageSettings.from_mapping({"source": {"uris": ["x"]}, "tokenizer": "natural_64"})
    assert settings.tokenizer_directory == SHIPPED_DIRECTORY / "natural_64"
