"""What a run has committed and has left to do, told by the dataset alone."""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset import CommitConfig, TokenDataset
from pipeline.resuming import committed_by, unfinished_units
from tests.token_samples import commit_all, corpus, flat, work_unit


def test_the_dataset_counts_as_the_committer_did(tmp_path: Path) -> None:
    in_many_files = CommitConfig(target_file_bytes=100)
    first = commit_all(tmp_path, flat(corpus(40).values()), in_many_files)
    dataset = TokenDataset.open(tmp_path)
    found = committed_by("run", dataset, num_units=43)
    assert (first.num_videos, first.num_clips, first.num_quarantined) == (30, 60, 10)
    assert (found.num_videos, found.num_clips, found.num_quarantined) == (30, 60, 10)
    assert found.num_skipped == 3
    later = commit_all(tmp_path, flat(corpus(60).values()), in_many_files, run_id="later")
    dataset.refresh()
    found = committed_by("later", dataset, num_units=60)
    assert (found.num_videos, found.num_clips) == (later.num_videos, later.num_clips) == (15, 30)
    assert found.num_skipped == later.num_skipped == 30
    assert committed_by("never", dataset, num_units=2).num_skipped == 2


def test_what_others_tokenized_and_what_this_run_quarantined_is_finished(tmp_path: Path) -> None:
    commit_all(tmp_path, flat(corpus(8).values()), run_id="other")
    units = [work_unit(f"{index:03}") for index in range(10)]
    changed = work_unit("000", "2")
    dataset = TokenDataset.open(tmp_path)
    left = unfinished_units([*units, changed], dataset, "run")
    assert left == [units[3], units[7], units[8], units[9], changed]
    assert unfinished_units(units, dataset, "other") == units[8:]
