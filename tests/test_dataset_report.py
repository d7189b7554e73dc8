"""The page of a token dataset, written by its job from a small real dataset."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import TokenDataset
from tests.in_process_run import tokenize_in_process
from tests.job_runs import run_plain, write_config
from tests.tiny_corpus import tokenize_config
from tests.video_factory import make_video

NUM_VIDEOS = 3


@pytest.fixture(scope="module")
def tokens(tokenizer_directory: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of three videos of two clips; one of them is gone by now, and a fourth is none."""
    root = tmp_path_factory.mktemp("tokens")
    (root / "videos").mkdir()
    generator = np.random.default_rng(0)
    for number in range(NUM_VIDEOS):
        still = generator.integers(0, 256, (4, 6, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        make_video(
            root / f"videos/{number}.mp4", frames=[np.roll(still, at, 1) for at in range(18)]
        )
    (root / "videos/<b>text.mp4").write_text("no video\n" * 50)
    tokenize_in_process(
        tokenize_config(root / "videos", tokenizer_directory, root / "tokens"), batch_size=4
    )
    (root / "videos/0.mp4").unlink()
    return root / "tokens"


def test_the_job_writes_a_page_of_what_is_still_there(tokens: Path, tmp_path: Path) -> None:
    report = {"output": str(tmp_path / "page.html"), "shown_clips": 2, "worst_clips": 1}
    report |= {"best_clips": 1, "mapped_words": 2}
    values = {"dataset": {"uri": str(tokens)}, "title": "All <i>tokens</i>", "report": report}
    found = run_plain("report_dataset", "--config", str(write_config(tmp_path / "c.yaml", values)))
    assert found.returncode == 0, found.stderr
    assert "mean of 4 clips" in found.stdout
    assert "mapped_words: 2" in (tmp_path / "page.yaml").read_text("utf-8")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<h1>All &lt;i&gt;tokens&lt;/i&gt;</h1>" in page
    assert "%3Cb%3Etext.mp4" in page
    assert "<b>text.mp4" not in page
    titles = re.findall(r'<h3 id="clip-\d">([^<]*)</h3>', page)
    assert 2 <= len(titles) <= 4
    assert set(titles) <= {"1.mp4", "2.mp4"}
    assert re.findall(r'<p class="note">(\w+)</p>', page) == ["worst", "best"]
    assert page.count("data:video/mp4;base64,") == 3 * len(titles)
    assert page.count("Where these tokens look") == 2 * len(titles)
    assert page.count('class="map"') == 2
    assert TokenDataset.open(tokens).num_clips() == 2 * NUM_VIDEOS
