"""The quickstart as a newcomer runs it."""

from __future__ import annotations

import os
import re

import polars
import pytest
from PIL import Image

from tests.job_runs import REPOSITORY
from tests.quickstart_run import Newcomer

pytestmark = [pytest.mark.jobs, pytest.mark.ray]


def test_the_quickstart_ends_with_a_summary_a_page_and_a_dataset(newcomer: Newcomer) -> None:
    for expected in (
        r"videos +4",
        r"clips +39 · 17×64×64 px",
        r"tokens +4,992 · 64 spatial \+ 64 temporal",
        r"bits per clip +1,280",
        r"bytes per clip +\d+",
        r"PSNR +\d+\.\d\d dB",
        r"cityCC0\.mpg +\d+\.\d\d dB · never trained on",
        r"spatial words used +\d+%",
        r"temporal words used +\d+%",
        r"speed +\d+\.\d clips/s with start-up",
    ):
        assert re.search(expected, newcomer.quickstart.stdout), expected
    made = newcomer.folder / "runs" / "quickstart"
    assert polars.read_delta(str(made / "tokens")).height == 39
    page = (made / "index.html").read_text(encoding="utf-8")
    # Eight over all videos, and the two worst and best ones where they are not among these.
    assert 8 <= page.count('<article class="clip"') <= 12
    assert "cityCC0.mpg" in page
    with Image.open(made / "reconstructions.png") as picture:
        assert picture.width > 500

    second = newcomer.types("make quickstart")
    assert second.returncode == 0, second.stderr
    assert "unchanged 4" in second.stderr
    assert "nothing new to tokenize" in second.stdout


def test_the_readme_s_commands_are_the_makefile_s() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in ("quickstart", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert link.startswith("http") or os.path.exists(REPOSITORY / link), link
    for job in re.findall(r"python (jobs/\w+\.py)", readme):
        assert (REPOSITORY / job).exists(), job
