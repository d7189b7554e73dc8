"""The page of a real run in a real browser: all its parts are there, and nothing complains.

With SWEETTOK_SCREENSHOT=docs/run_page.png it leaves the picture that docs/operations.md shows.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.tokenization import tokenize_corpus
from tests.browser import Browser, Visit, browser
from tests.tiny_corpus import BROKEN, CLIPS_PER_GOOD_VIDEO, GOOD, make_corpus, tokenize_config

__all__ = ["browser"]

pytestmark = pytest.mark.ray

NUM_COPIES = 120
PARTS = ("Account", "Throughput, clips per second", "Processes at work", "Stage times",
         "Reasons of failure", "Quarantined videos", "Configuration")  # fmt: skip
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def page(
    ray_cluster: None, tokenizer_directory: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The page that a run has left; long enough for curves."""
    folder = tmp_path_factory.mktemp("run")
    corpus = make_corpus(folder / "videos")
    for index in range(NUM_COPIES):
        shutil.copy(corpus / GOOD[index % len(GOOD)], corpus / f"copy{index:03}.mp4")
    config = tokenize_config(
        corpus, tokenizer_directory, folder / "tokens", commit={"every_clips": 60}
    )
    found = tokenize_corpus(config)
    return folder / "tokens" / "_runs" / found.run_id / "index.html"


@pytest.mark.parametrize("width_px", [1200, 390])
def test_all_parts_of_a_runs_page_are_there(browser: Browser, page: Path, width_px: int) -> None:
    with browser.open(page, width_px=width_px) as visit:
        for heading in PARTS:
            assert visit.page.get_by_role("heading", name=heading, exact=True).is_visible()
        tiles = dict(
            zip(
                visit.page.locator("dt").all_inner_texts(),
                visit.page.locator("dd").all_inner_texts(),
                strict=True,
            )
        )
        num_good = NUM_COPIES + len(GOOD)
        assert tiles["Videos tokenized"] == f"{num_good}"
        assert tiles["Clips"] == f"{num_good * CLIPS_PER_GOOD_VIDEO}"
        assert tiles["Quarantined"] == f"{len(BROKEN)}"
        curves = visit.page.locator("polyline")
        assert curves.count() == 4
        assert min(curve.bounding_box()["width"] for curve in curves.all()) > 50
        names = visit.page.locator("#stages .name")
        colours = names.evaluate_all("all => all.map((name) => getComputedStyle(name).fill)")
        assert len(set(colours)) == 3
        assert visit.page.locator("#reasons rect").count() == len(BROKEN)
        assert visit.page.locator("#examples tr").count() == 1 + len(BROKEN)
        assert visit.page.evaluate(OVERFLOW) <= 0
        assert visit.complaints == []
        assert visit.requests == []
        if width_px == 1200 and (target := os.environ.get("SWEETTOK_SCREENSHOT")):
            take_picture(visit, page, target)


def take_picture(visit: Visit, page: Path, target: str) -> None:
    """Keeps the page up to its configuration, without the folder that it happens to lie in."""
    folder = str(page.parents[3])
    visit.page.evaluate(
        "(folder) => { const main = document.body; "
        "main.innerHTML = main.innerHTML.replaceAll(folder, ''); }",
        folder,
    )
    height = visit.page.locator("#config").bounding_box()["y"]
    clip = {"x": 0, "y": 0, "width": 1200, "height": height}
    visit.page.screenshot(path=target, full_page=True, clip=clip)
