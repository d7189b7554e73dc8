"""The quickstart as a newcomer runs it, only with less training."""

from __future__ import annotations

import os
import re
from pathlib import Path

import polars
import pytest
from PIL import Image

from tests.job_runs import REPOSITORY, run_plain

pytestmark = [pytest.mark.jobs, pytest.mark.ray]


def test_the_quickstart_ends_with_a_summary_a_page_and_a_dataset(tmp_path: Path) -> None:
    arguments = [
        "--config=configs/quickstart.yaml",
        # The samples are fetched once for the working tree, as `make quickstart` does.
        "--set=train.training.phases.video.time_limit_s=5",
        f"--set=train.data.cache.directory={tmp_path}/frames",
        f"--set=train.run.tensorboard={tmp_path}/tensorboard",
        f"--set=train.run.storage_path={tmp_path}/checkpoints",
        f"--set=train.run.output={tmp_path}/tokenizer",
        f"--set=tokenize.tokenizer={tmp_path}/tokenizer",
        f"--set=tokenize.dataset.uri={tmp_path}/tokens",
        f"--set=report.output={tmp_path}/index.html",
        f"--set=picture={tmp_path}/picture.png",
    ]
    first = run_plain("quickstart", *arguments)
    assert first.returncode == 0, first.stdout + first.stderr
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
        assert re.search(expected, first.stdout), expected
    assert polars.read_delta(str(tmp_path / "tokens")).height == 39
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    # Eight over all videos, and the two worst and best ones where they are not among these.
    assert 8 <= page.count('<article class="clip"') <= 12
    assert "cityCC0.mpg" in page
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 500

    second = run_plain("quickstart", *arguments)
    assert second.returncode == 0, second.stderr
    assert "unchanged 4" in second.stderr
    assert "nothing new to tokenize" in second.stdout


def test_the_readme_s_commands_are_the_makefile_s(tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in ("quickstart", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert link.startswith("http") or os.path.exists(REPOSITORY / link), link
    for job in re.findall(r"python (jobs/\w+\.py)", readme):
        assert (REPOSITORY / job).exists(), job
