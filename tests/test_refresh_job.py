"""`jobs/refresh_dataset.py`: one command for a scheduler, and what it keeps readable."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError
from pipeline.exit_codes import ExitCode
from pipeline.refresh import RefreshConfig, refresh_dataset
from tests.job_runs import REPOSITORY, job_environment, write_config
from tests.tiny_corpus import CLIPS_PER_GOOD_VIDEO, make_corpus, tokenize_values
from tests.video_factory import make_video

pytestmark = pytest.mark.ray

NUM_FIRST = 3 * CLIPS_PER_GOOD_VIDEO


@pytest.fixture
def values(tokenizer_directory: str, tmp_path: Path) -> dict[str, Any]:
    """Settings under which only the newest version and the kept states stay."""
    corpus = make_corpus(tmp_path / "corpus")
    values = tokenize_values(corpus, tokenizer_directory, tmp_path / "tokens")
    return values | {"on_removed": "delete", "clean_up": {"retention_h": 0}, "keep_states": 2}


def pins(root: Path) -> dict[str, int]:
    return {pin.name: pin.version for pin in TokenDataset.open(root).pins()}


def num_clips(root: Path, version: int | None = None) -> int:
    return TokenDataset.open(root, version).rows(["clip_id"]).read_all().num_rows


def test_a_refresh_without_changes_makes_no_version_and_old_states_go_in_turn(
    ray_cluster: None, values: dict[str, Any], tmp_path: Path
) -> None:
    root, config = tmp_path / "tokens", RefreshConfig.from_mapping(values)
    first = refresh_dataset(config).maintained.dataset_version
    assert (num_clips(root), pins(root)) == (NUM_FIRST, {})
    log = sorted((root / "_delta_log").iterdir())
    again = refresh_dataset(config)
    assert again.tokenized.lines()[1].startswith("nothing to do")
    assert (again.maintained.dataset_version, pins(root)) == (first, {})
    assert sorted((root / "_delta_log").iterdir()) == log

    make_video(tmp_path / "corpus" / "d.mp4", num_frames=30)
    second = refresh_dataset(config).maintained.dataset_version
    assert pins(root) == {f"refresh-{first}": first}
    assert num_clips(root, first) == NUM_FIRST
    assert num_clips(root) == NUM_FIRST + CLIPS_PER_GOOD_VIDEO

    (tmp_path / "corpus" / "a.mp4").unlink()
    refresh_dataset(config)
    assert pins(root) == {f"refresh-{second}": second}
    assert num_clips(root, second) == NUM_FIRST + CLIPS_PER_GOOD_VIDEO
    assert num_clips(root) == NUM_FIRST
    refresh_dataset(config)  # the files of what was unpinned above are gone at the latest now
    with pytest.raises(DatasetError, match="is not complete"):
        num_clips(root, first)


@pytest.mark.jobs
def test_of_two_refreshes_at_once_one_works_and_the_other_leaves_with_its_code(
    values: dict[str, Any], tmp_path: Path
) -> None:
    config = str(write_config(tmp_path / "job.yaml", values))
    jobs = [
        subprocess.Popen(
            [sys.executable, "jobs/refresh_dataset.py", "--config", config],
            cwd=REPOSITORY, env=job_environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    ended = [(*job.communicate(timeout=240), job.returncode) for job in jobs]
    by_code = {code: (printed, errors) for printed, errors, code in ended}
    assert by_code.keys() == {ExitCode.DONE, ExitCode.BUSY}, ended
    assert "listed 6 = tokenized 3 + quarantined 3 + unchanged 0" in by_code[ExitCode.DONE][0]
    printed, errors = by_code[ExitCode.BUSY]
    assert printed == ""
    assert re.fullmatch(r"refresh_dataset\.py: \S+: another refresh [^\n]*\n", errors), errors
    assert num_clips(tmp_path / "tokens") == NUM_FIRST
