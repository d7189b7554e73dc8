"""Report pages in a real browser: they play, nothing is missing, nothing complains."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pipeline.preview.report import render_report
from tests.browser import Browser, Visit, browser
from tests.report_samples import BRIGHTER, NUM_FRAMES, moving_frames, whole_report

__all__ = ["browser"]

NUM_CLIPS = 3
PLAYERS_PER_CLIP = 4
HOSTILE = (
    """</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">"""
    """' onmouseover='window.hacked = 1' " autofocus onfocus="window.hacked=1" &lt; {{ 7 * 7 }} """
    """https://example.com/video.mp4 javascript:window.hacked=1"""
)
# Mean brightness of what each player of the first clip shows right now.
BRIGHTNESS = """() => [...document.querySelectorAll(".clip:first-of-type video")].map((video) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  const brush = canvas.getContext("2d");
  brush.drawImage(video, 0, 0, 8, 8);
  const values = [...brush.getImageData(0, 0, 8, 8).data].filter((_, at) => at % 4 !== 3);
  return values.reduce((sum, value) => sum + value, 0) / values.length;
})"""
TIMES = """() => [...document.querySelectorAll(".clip:first-of-type video")].map(
  (video) => video.currentTime)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, text in (("plain", "bikes.mp4"), ("hostile", HOSTILE)):
        page = render_report(whole_report(text, num_clips=NUM_CLIPS))
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return folder


def assert_at_peace(visit: Visit) -> None:
    assert visit.complaints == []
    assert {urlsplit(url).scheme for url in visit.requests} <= {"blob", "data"}


def loaded(visit: Visit) -> None:
    """Goes to the first clip and waits until all of its players have frames to show."""
    visit.page.locator(".clip").first.scroll_into_view_if_needed()
    visit.page.wait_for_function(
        """() => [...document.querySelectorAll(".clip:first-of-type video")].every(
             (video) => video.readyState >= 2)"""
    )


def test_every_clip_plays_when_it_is_seen(browser: Browser, pages: Path) -> None:
    with browser.open(pages / "plain.html") as visit:
        cards = visit.page.locator(".clip")
        assert cards.count() == NUM_CLIPS
        for number in range(NUM_CLIPS):
            card = cards.nth(number)
            card.scroll_into_view_if_needed()
            visit.page.wait_for_function(
                """(number) => {
                  const card = document.querySelectorAll(".clip")[number];
                  const videos = [...card.querySelectorAll("video")];
                  return videos.every((video) => video.currentTime > 0.2 && !video.error)
                    && card.querySelector(".frame").textContent !== "1/9";
                }""",
                arg=number,
            )
            assert card.locator("video").count() == PLAYERS_PER_CLIP
        assert_at_peace(visit)


def test_players_show_the_frame_that_was_asked_for(browser: Browser, pages: Path) -> None:
    with browser.open(pages / "plain.html") as visit:
        loaded(visit)
        slider = visit.page.locator(".seek").first
        for frame in (6, 1, NUM_FRAMES - 1):
            slider.fill(str(frame))
            visit.page.wait_for_function(
                """() => [...document.querySelectorAll(".clip:first-of-type video")].every(
                     (video) => !video.seeking && video.readyState >= 2)"""
            )
            level = int(moving_frames()[frame, 0, 0, 0])
            expected = [level, level + BRIGHTER, 4 * BRIGHTER, level]
            assert visit.page.evaluate(BRIGHTNESS) == pytest.approx(expected, abs=4)
            assert visit.page.locator(".frame").first.text_content() == f"{frame + 1}/{NUM_FRAMES}"
        assert_at_peace(visit)


def test_buttons_hold_and_release_all_players(browser: Browser, pages: Path) -> None:
    with browser.open(pages / "plain.html") as visit:
        loaded(visit)
        visit.page.get_by_role("button", name="Pause all").click()
        held = visit.page.evaluate(TIMES)
        visit.page.wait_for_timeout(300)
        assert visit.page.evaluate(TIMES) == held
        assert visit.page.locator(".play").first.inner_text().startswith("Play")
        visit.page.locator(".play").first.click()
        visit.page.wait_for_function(
            f"(held) => ({TIMES})().every((time, at) => time !== held[at])", arg=held
        )
        visit.page.locator("#speed").select_option("0.25")
        rates = TIMES.replace("currentTime", "playbackRate")
        assert visit.page.evaluate(rates) == [0.25] * PLAYERS_PER_CLIP
        assert_at_peace(visit)


@pytest.mark.parametrize("width_px", [1200, 390])
def test_nothing_is_missing_and_nothing_sticks_out(
    browser: Browser, pages: Path, width_px: int
) -> None:
    with browser.open(pages / "plain.html", width_px=width_px) as visit:
        loaded(visit)
        sizes = visit.page.eval_on_selector_all("img", "images => images.map(i => i.naturalWidth)")
        assert len(sizes) == 2 * NUM_CLIPS
        assert min(sizes) > 0
        drawn = visit.page.eval_on_selector_all(
            "svg", "drawings => drawings.map(d => d.getBoundingClientRect().height)"
        )
        assert len(drawn) == 3
        assert min(drawn) > 80
        assert visit.page.locator("svg.map circle").count() == 3
        assert visit.page.locator(".rates circle").count() == 3
        assert visit.page.locator("table").count() == 2
        for heading in ("Figures", "Quality over bits", "Clips", "Codebook usage", "Quarantine"):
            assert visit.page.get_by_role("heading", name=heading, exact=True).is_visible()
        wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert visit.page.evaluate(wide) <= 0
        assert_at_peace(visit)


def test_hostile_texts_are_shown_and_never_run(browser: Browser, pages: Path) -> None:
    with browser.open(pages / "hostile.html") as visit:
        loaded(visit)
        visit.page.mouse.move(300, 300)
        shown = " ".join(HOSTILE.split())
        assert visit.page.title() == shown
        assert visit.page.locator("h1").inner_text() == shown
        assert visit.page.locator(".uri").inner_text() == f"file:///{shown}"
        assert visit.page.locator(".chip.noun").nth(1).inner_text().startswith(shown)
        assert visit.page.evaluate("() => window.hacked") is None
        assert visit.page.locator("script").count() == 1
        assert_at_peace(visit)
