"""The documentation site: it builds without a warning, its links lead somewhere, it asks nobody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import pipeline.dataset
import pipeline.reading
import sweettok
from docs.site.setting_tables import anchor, attribute_texts, meanings, setting_table
from pipeline.tokenization import TokenizeConfig
from sweettok.strict_config import StrictConfig
from tests.browser import Browser, browser
from tests.job_runs import REPOSITORY, job_environment, run_plain

__all__ = ["browser"]

_RESOURCES = {
    "audio": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
}
_NO_RESOURCE = {"canonical", "next", "prev"}  # relations of <link> that load nothing


@dataclass
class Page(HTMLParser):
    """What one page of the site links to, loads, and can be linked to.

    Attributes:
        path: Its file.
        links: Targets of its anchors, as they are written.
        resources: What a browser loads with it.
        ids: Where in it a link can lead.
    """

    path: Path
    links: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in _NO_RESOURCE:
            return
        self.resources += [values[name] for name in _RESOURCES.get(tag, ()) if values.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env=job_environment() | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@cache
def read_page(path: Path) -> Page:
    return Page(path)


def is_external(target: str) -> bool:
    parts = urlsplit(target)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def fault_of(target: str, page: Page, site: Path) -> str | None:
    """What is wrong with a link or a resource inside the site; None if nothing is."""
    parts = urlsplit(target)
    start = site if parts.path.startswith("/") else page.path.parent
    path = start / unquote(parts.path).lstrip("/") if parts.path else page.path
    path = Path(os.path.normpath(path / "index.html" if path.is_dir() else path))
    if not path.is_file():
        return f"{page.path.relative_to(site)}: {target}: no such file"
    if parts.fragment and unquote(parts.fragment) not in read_page(path).ids:
        return f"{page.path.relative_to(site)}: {target}: no such place"
    return None


def pages_of(site: Path) -> list[Page]:
    return [read_page(path) for path in sorted(site.rglob("*.html"))]


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    pages = pages_of(site)
    links = [(link, page) for page in pages for link in page.links if not is_external(link)]
    faults = [fault_of(link, page, site) for link, page in links]
    assert [fault for fault in faults if fault] == []
    assert len(pages) > 50
    assert len(links) > 1000


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.html").write_text('<h1 id="top">There</h1>')
    (tmp_path / "page.html").write_text("<p>no anchor</p>")
    page = read_page(tmp_path / "page.html")
    assert fault_of("there.html#top", page, tmp_path) is None
    assert fault_of("there.html#bottom", page, tmp_path) == (
        "page.html: there.html#bottom: no such place"
    )
    assert fault_of("nowhere.html", page, tmp_path) == "page.html: nowhere.html: no such file"


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in pages_of(site):
        for resource in page.resources:
            assert not is_external(resource), f"{page.path.name}: {resource}"
            if not resource.startswith("data:"):
                assert fault_of(resource, page, site) is None
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        for target in re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", text):
            assert not is_external("".join(target)), f"{sheet.name}: {target}"


def test_a_browser_without_a_network_shows_it(site: Path, browser: Browser) -> None:
    for name in ("index.html", "commands/tokenize_corpus.html", "reference/dataset.html"):
        with browser.open(site / name) as visit:
            assert visit.page.locator("article h1").is_visible()
            # One column of text, not a page that its styles have not reached.
            assert visit.page.locator(".md-header").bounding_box()["height"] < 100
            assert {url.partition(":")[0] for url in visit.requests} == {"file"}


def test_the_public_names_are_in_the_reference(site: Path) -> None:
    reference = {place for page in site.glob("reference/*.html") for place in read_page(page).ids}
    for package in (sweettok, pipeline.reading, pipeline.dataset):
        for name in package.__all__:
            if name != "__version__":
                found = getattr(package, name)
                assert f"{found.__module__}.{found.__qualname__}" in reference, name


def test_every_job_has_a_page_with_its_own_help(site: Path) -> None:
    jobs = {path.stem for path in (REPOSITORY / "jobs").glob("*.py")}
    pages = {path.stem for path in site.glob("commands/*.html")}
    assert pages - {"index"} == jobs
    for job in ("tokenize_corpus", "inspect_codebook"):
        text = text_of(site / "commands" / f"{job}.html")
        help_lines = run_help(job)
        assert len(help_lines) > 10
        for line in help_lines:
            assert line in text, f"{job}: {line}"


def run_help(job: str) -> list[str]:
    """The lines that the job prints, in a process of its own."""
    done = run_plain(job, "--help")
    assert done.returncode == 0, done.stderr
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def text_of(page: Path) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))).split())


def test_settings_have_type_default_and_meaning(site: Path) -> None:
    table = setting_table(TokenizeConfig, "settings.md")
    dataset = "settings.md#pipeline-dataset-creation"
    assert "| `dataset` | [TargetConfig](settings.md#" in table, dataset
    assert "| `on_removed` | `keep` or `delete` | `keep` | What becomes of videos" in table
    assert "| `max_removed_fraction` | number, ≥ 0, ≤ 1 | `0.2` |" in table
    assert "| `retry_quarantined` | list of text | `[]` |" in table
    ids = read_page(site / "reference" / "settings.html").ids
    for field_info in TokenizeConfig.model_fields.values():
        kind = field_info.annotation
        if isinstance(kind, type) and issubclass(kind, StrictConfig):
            assert anchor(kind) in ids


def test_a_setting_that_no_docstring_describes_is_an_error() -> None:
    class Silent(StrictConfig):
        """Says too little.

        Attributes:
            first, second: Both of them,
                over two lines.

        Raises:
            Nothing: really.
        """

        first: int
        second: int
        third: int

    texts = attribute_texts("Attributes:\n    a, b: Both,\n        twice.\n\nRaises:\n    X: y")
    assert texts == {"a": "Both, twice.", "b": "Both, twice."}
    with pytest.raises(ValueError, match="no meaning of third"):
        meanings(Silent)
