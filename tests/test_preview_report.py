"""The report page: complete in itself, true to its data, safe with hostile names."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.preview.report import (
    ClipPreview,
    CodebookUsage,
    OtherReconstruction,
    QuarantineRow,
    ReportData,
    WordCount,
    render_report,
)
from pipeline.preview.usage_curve import usage_curve
from pipeline.preview.usage_histogram import usage_histogram
from sweettok.errors import ShapeError
from tests.report_samples import whole_report

HOSTILE = """</script><script>alert("x")</script>' onerror='alert(1)" & <b>"""


class Page(HTMLParser):
    """The tags, attributes and texts that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def found(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def clip() -> ClipPreview:
    columns = np.linspace(40, 200, 32).astype(np.uint8)
    original = np.broadcast_to(columns[None, None, :, None], (5, 24, 32, 3)).copy()
    original[:, :, :8] = np.arange(0, 100, 20, dtype=np.uint8)[:, None, None, None]
    return ClipPreview(
        title="bikes.mp4",
        start_s=1.5,
        end_s=2.125,
        original=original,
        reconstruction=original + np.uint8(10),
        psnr_db=28.13,
        spatial_words=(WordCount("tree", "noun", 9), WordCount("green", "adjective", 1)),
        temporal_words=(WordCount("turn", "verb", 4), WordCount("hm", "interjection", 1)),
        bits=1152.0,
        num_tokens=128,
        fps=8.0,
    )


@pytest.fixture(scope="module")
def data(clip: ClipPreview) -> ReportData:
    counts = np.array([40, 0, 6, 0, 2, 0, 0, 0], dtype=np.int64)
    words = tuple(f"word{code}" for code in range(8))
    return ReportData(
        title="A run",
        summary=(("Videos", "5"), ("PSNR", "28.1 dB")),
        clips=(clip, replace(clip, title="second", psnr_db=float("inf"))),
        usages=(CodebookUsage("spatial", words, counts, usage=0.375, perplexity=1.7),),
        quarantine=(QuarantineRow("file:///empty.mp4", "empty", "0 bytes"),),
        lineage={"fingerprint": "9f2c"},
        config_yaml="tokenizer:\n  preset: tiny\n",
    )


@pytest.fixture(scope="module")
def page(data: ReportData) -> Page:
    return Page(render_report(data))


def decode_data_url(url: str) -> np.ndarray:
    prefix, _, text = url.partition(",")
    assert prefix == "data:video/mp4;base64"
    with av.open(io.BytesIO(base64.b64decode(text, validate=True))) as container:
        frames = [
            frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
            for frame in container.decode(video=0)
        ]
    return np.stack(frames).astype(int)


def test_each_clip_has_its_three_videos(page: Page, clip: ClipPreview) -> None:
    videos = page.found("video")
    labels = [video["aria-label"] for video in videos]
    assert len(videos) == 6
    assert labels[:3] == [
        "Original of bikes.mp4",
        "Reconstruction of bikes.mp4",
        "Difference ×4 of bikes.mp4",
    ]
    original, reconstruction, difference = (decode_data_url(video["src"]) for video in videos[:3])
    factor = original.shape[1] // clip.original.shape[1]
    enlarged = clip.original.repeat(factor, axis=1).repeat(factor, axis=2).astype(int)
    assert original.shape == enlarged.shape
    assert np.abs(original - enlarged).mean() < 2
    assert np.abs(reconstruction - enlarged - 10).mean() < 2
    assert np.abs(difference - 40).mean() < 2


def test_the_page_asks_no_network(page: Page) -> None:
    for _, attributes in page.tags:
        for name in ("src", "href", "poster", "action", "srcset"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttp", "".join(page.texts))


def test_only_the_page_s_own_script_may_run(page: Page, data: ReportData) -> None:
    html = render_report(data)
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [meta["content"] for meta in page.found("meta") if "http-equiv" in meta]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_hostile_texts_are_shown_and_never_run() -> None:
    shown, plain = (Page(render_report(whole_report(text))) for text in (HOSTILE, "plain"))
    assert [tag for tag, _ in shown.tags] == [tag for tag, _ in plain.tags]
    names = Counter(name for _, attributes in shown.tags for name in attributes)
    assert not [name for name in names if name.startswith("on")]
    assert f"file:///{HOSTILE}" in shown.texts
    assert sum(HOSTILE in text for text in shown.texts) >= 25


def test_pictures_of_a_whole_page_are_there(page: Page) -> None:
    whole = Page(render_report(whole_report("text")))
    strips = [image for image in whole.found("img") if "look" in image["alt"]]
    assert len(strips) == 4
    for strip in strips:
        content = base64.b64decode(strip["src"].partition(",")[2], validate=True)
        assert Image.open(io.BytesIO(content)).format == "JPEG"
    assert len(whole.found("svg")) == 3
    assert not page.found("img")


def test_undecodable_file_names_still_give_a_page_that_can_be_saved(data: ReportData) -> None:
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    html = render_report(
        replace(data, clips=(), quarantine=(QuarantineRow(name, "not_found", ""),))
    )
    assert "caf\\udce9.mp4" in html.encode("utf-8").decode("utf-8")


def test_the_page_says_what_the_data_says(page: Page) -> None:
    text = " ".join(" ".join(page.texts).split())
    for expected in (
        "A run",
        "1.50–2.12 s",
        "28.1 dB PSNR",
        "∞ dB PSNR",
        "128 tokens",
        "1,152 bits",
        "80× smaller",
        "3 of 8 words used",
        "62.5 % dead",
        "word0 40 83.3 %",
        "1 input gave no clip.",
        "9f2c",
        "preset: tiny",
    ):
        assert expected in text
    assert "word1" not in text


def test_chips_are_sized_by_count_and_coloured_by_part_of_speech(page: Page) -> None:
    chips = {
        item["title"]: item["class"] for item in page.found("li") if "chip" in item.get("class", "")
    }
    assert chips == {
        "noun, 9 tokens": "chip noun size-5",
        "adjective, 1 token": "chip adjective size-1",
        "verb, 4 tokens": "chip verb size-5",
        "interjection, 1 token": "chip other size-1",
    }


def test_ids_are_unique_and_every_label_points_to_one(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)


def test_a_run_that_gave_nothing_still_has_a_page() -> None:
    page = Page(render_report(ReportData(title="Empty", summary=())))
    assert "No clip was chosen for this page." in page.texts
    assert "Every input gave its clips." in page.texts
    unused = CodebookUsage("spatial", ("a", "b"), np.zeros(2, np.int64), 0.0, 0.0)
    text = " ".join(Page(render_report(ReportData("Idle", (), usages=(unused,)))).texts)
    assert "100.0 % dead" in text


def test_records_refuse_what_does_not_fit(clip: ClipPreview) -> None:
    with pytest.raises(ShapeError, match=r"\[5, 24, 32, 3\].*\[4, 24, 32, 3\]"):
        replace(clip, reconstruction=clip.reconstruction[:4])
    with pytest.raises(ShapeError, match=r"original of clip 'bikes\.mp4'.*int16"):
        replace(clip, original=clip.original.astype(np.int16))
    with pytest.raises(ShapeError, match="and theirs"):
        replace(clip, others=(OtherReconstruction("theirs", clip.original[1:], 1.0),))
    with pytest.raises(ShapeError, match="fps"):
        replace(clip, fps=0.0)
    with pytest.raises(ShapeError, match="2 words and 3 counts"):
        CodebookUsage("s", ("a", "b"), np.array([1, 0, 2]), 2 / 3, 1.0)
    with pytest.raises(ShapeError, match="agree with the counts"):
        CodebookUsage("s", ("a", "b"), np.array([1, 0]), 50.0, 1.0)
    with pytest.raises(ShapeError, match="integers"):
        CodebookUsage("s", ("a", "b"), np.array([1.0, 0.0]), 0.5, 1.0)


@given(counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=400))
def test_a_usage_curve_falls_and_stays_in_its_frame(counts: list[int]) -> None:
    curve = usage_curve(np.array(counts))
    points = [tuple(map(float, point.split(","))) for point in curve.line.split()]
    assert bool(points) == any(counts)
    assert points == sorted(points, key=lambda point: (point[0], point[1]))
    assert [y for _, y in points] == sorted(y for _, y in points)
    inside_x = [curve.last_used_x, *(x for x, _ in points), *(t.position for t in curve.rank_ticks)]
    inside_y = [curve.even_y, *(y for _, y in points), *(t.position for t in curve.count_ticks)]
    assert curve.left <= min(inside_x) <= max(inside_x) <= curve.right
    assert curve.top <= min(inside_y) <= max(inside_y) <= curve.bottom


@given(counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=400))
def test_a_usage_histogram_holds_every_code_once(counts: list[int]) -> None:
    bins = usage_histogram(np.array(counts))
    assert sum(one.num_codes for one in bins) == len(counts)
    for one in bins:
        assert one.num_codes == sum(one.low <= count <= one.high for count in counts)


def test_a_usage_curve_ends_at_the_frame_only_without_dead_codes() -> None:
    full = usage_curve(np.arange(1, 101))
    half = usage_curve(np.where(np.arange(100) < 50, 7, 0))
    assert full.last_used_x == full.right
    assert half.last_used_x < half.right
    assert [tick.label for tick in full.rank_ticks] == ["1", "10", "100"]
