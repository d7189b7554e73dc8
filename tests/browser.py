"""A real browser without a window that opens pages from disk and notes all that goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEADLINE_MS = 30_000


@dataclass
class Visit:
    """One opened page.

    Attributes:
        page: Playwright's page.
        complaints: Everything on the console, uncaught errors and dialogs.
        requests: What was asked for, other than the page itself.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class Browser:
    """Opens pages without a network; a test that needs one skips where there is none."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser

    @contextmanager
    def open(self, path: Path, *, width_px: int = 1200) -> Iterator[Visit]:
        """Opens a file from disk."""
        context = self._browser.new_context(
            offline=True, viewport={"width": width_px, "height": 900}
        )
        context.set_default_timeout(DEADLINE_MS)
        page = context.new_page()
        visit = Visit(page)
        page.on("console", lambda message: visit.complaints.append(message.text))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (visit.complaints.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: visit.requests.append(request.url))
        page.goto(path.as_uri())
        visit.requests.remove(path.as_uri())
        yield visit
        context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as the system has it, driven by Playwright."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright: pip install playwright"
    )
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is installed")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield Browser(launched)
        launched.close()
