"""The quickstart and the other pages that work on its dataset, carried out as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.dataset import TokenDataset
from tests.doc_pages import REPOSITORY, blocks
from tests.quickstart_run import Newcomer
from tests.video_factory import make_video

pytestmark = [pytest.mark.jobs, pytest.mark.ray]

DOCS = REPOSITORY / "docs"


def run_python(page: Path, name: str = "__main__") -> dict[str, Any]:
    """Runs the Python of a page from top to bottom, as one program; returns what it leaves."""
    left: dict[str, Any] = {"__name__": name}
    for block in blocks(page):
        if block.language == "python":
            code = "\n" * block.line + block.text  # so that a traceback names the page's line
            exec(compile(code, str(page), "exec"), left)
    return left


def test_the_quickstart_of_the_docs(newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = newcomer.folder / "my_videos"
    videos.mkdir()
    for number in range(5):
        make_video(videos / f"{number}.mp4", num_frames=40)
    (videos / "notes.mp4").write_text("this is no video\n")

    shell = [block.text for block in blocks(DOCS / "quickstart.md") if block.language == "bash"]
    assert shell[0] == "make quickstart\n"  # the fixture has typed it
    done = newcomer.types("\n".join(shell[1:]))
    assert done.returncode == 0, done.stdout + done.stderr
    account = "listed 6 = tokenized 5 + quarantined 1 + unchanged 0"
    assert account in (DOCS / "quickstart.md").read_text()
    assert account in done.stdout
    assert "6" in done.stdout.splitlines()[0]
    assert (newcomer.folder / "runs" / "my_report.html").stat().st_size > 10_000
    assert len(list((newcomer.folder / "runs" / "my_decoded").rglob("*.mp4"))) > 0
    for name in ("index.html", "reconstructions.png", "tokens"):
        assert (newcomer.folder / "runs" / "quickstart" / name).exists()

    monkeypatch.chdir(newcomer.folder)
    left = run_python(DOCS / "quickstart.md")
    assert left["dataset"].num_clips() == 10
    assert left["pixels"].shape == (1, 17, 64, 64, 3)
    assert left["pixels"].dtype == torch.uint8
    assert left["again"].spatial.shape == left["tokens"].spatial.shape == (1, 64)
    assert left["dataset"].quarantine()["reason"].to_pylist() == ["not_a_video"]


def test_a_trainer_of_ones_own(newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(newcomer.folder)
    left = run_python(DOCS / "trainer.md")
    assert torch.isfinite(left["loss"])
    num_clips = TokenDataset.open("runs/quickstart/tokens").num_clips()
    assert len(left["resumed"]) == num_clips // 8 - 2  # after two batches of eight
    assert left["frame"].height == left["table"].num_rows == num_clips


def test_the_readme_s_python(newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(newcomer.folder)
    left = run_python(REPOSITORY / "README.md")
    assert left["rows"].height == 39
    assert left["video"].shape == (1, 3, 17, 64, 64)
    assert left["frames"].shape == (3, 101, 128, 96)
