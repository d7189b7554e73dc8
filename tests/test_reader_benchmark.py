"""What the reader is compared with: every contender reads the same clips of the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.reading import TokenReader
from pipeline.reading.contenders import CONTENDERS, Task
from pipeline.reading.random_tokens import RandomTokensConfig, make_random_tokens

NUM_CLIPS = 5_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """5,000 clips in three files; the last ones are smaller than a row group."""
    config = RandomTokensConfig(
        directory=str(tmp_path_factory.mktemp("benchmark") / "tokens"),
        num_clips=NUM_CLIPS,
        num_spatial_tokens=3,
        num_temporal_tokens=5,
        clips_per_file=2_300,
    )
    make_random_tokens(config)
    version = TokenReader.open(config.root).version
    make_random_tokens(config)
    assert TokenReader.open(config.root).version == version, "made once"
    return config.root


@pytest.mark.parametrize("name", list(CONTENDERS))
def test_every_contender_reads_all_clips(
    name: str, root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    task = Task(root, batch_size=64, window_samples=500, read_clips=NUM_CLIPS, max_s=60)
    expected = NUM_CLIPS // 2 if name == "reader resumed" else NUM_CLIPS
    assert sum(CONTENDERS[name](task)()) == expected
