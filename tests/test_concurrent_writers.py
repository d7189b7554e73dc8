"""Several writers at once, killed writers, compaction in between: every unit is committed once."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from itertools import pairwise
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import CommitConfig, CommitSummary, Committer, TokenDataset
from pipeline.dataset.assembly import CompletedUnit
from pipeline.dataset.commits import CommitConflictError
from pipeline.dataset.rows import token_rows
from pipeline.planning import plan_units
from tests.token_samples import (
    commit_all,
    corpus,
    flat,
    listed_video,
    sample_lineage,
    states_of,
    table_of,
    tokenized_clip,
    unit_records,
    work_unit,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def write_shuffled(root: str, seed: int, num_videos: int, pause_s: float) -> CommitSummary:
    """What a writer process does: plan, then small commits of the units in its own order."""
    dataset = TokenDataset.create_or_open(root, sample_lineage())
    names = [f"{index:03}" for index in range(num_videos)]
    units, _ = plan_units([listed_video(name) for name in names], dataset.finished_units())
    wanted = {unit.uri[-3:] for unit in units}
    records = [unit for name, unit in corpus(num_videos).items() if name in wanted]
    random.Random(seed).shuffle(records)
    config = CommitConfig(every_clips=3, target_file_bytes=100)
    committer = Committer(dataset, f"run-{seed}", config)
    for record in flat(records):
        committer.add(record)
        time.sleep(pause_s)
    return committer.close()


def write_at_the_same_time(
    root: str, seed: int, start: Barrier, summaries: SimpleQueue[CommitSummary]
) -> None:
    """`write_shuffled` once every writer process is up."""
    start.wait(timeout=60)
    summaries.put(write_shuffled(root, seed, num_videos=24, pause_s=0.01))


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_two_interleaved_committers_commit_each_unit_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("two") / "tokens"
    units = list(corpus(7).values())
    config = CommitConfig(every_clips=data.draw(st.integers(1, 6)), target_file_bytes=100)
    streams = [flat(data.draw(st.permutations(units))) for _ in range(2)]
    committers = [
        Committer(TokenDataset.create_or_open(root, sample_lineage()), f"run-{i}", config)
        for i in range(2)
    ]
    while any(streams):
        index = data.draw(st.sampled_from([i for i in range(2) if streams[i]]))
        committers[index].add(streams[index].pop(0))
    summaries = [committer.close() for committer in committers]
    expected = tmp_path_factory.mktemp("straight") / "tokens"
    commit_all(expected, flat(units))
    assert table_of(root) == table_of(expected)
    assert states_of(root) == states_of(expected)
    assert sum(summary.num_videos for summary in summaries) == 6
    assert sum(summary.num_skipped for summary in summaries) == 6


def test_two_processes_with_the_same_units_commit_each_once(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, queue = context.Barrier(2), context.SimpleQueue()
    writers = [
        context.Process(target=write_at_the_same_time, args=(str(root), seed, start, queue))
        for seed in (1, 2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=120)
        assert writer.exitcode == 0
    summaries = [queue.get(), queue.get()]
    expected = root.parent / "undisturbed"
    commit_all(expected, flat(corpus(24).values()))
    assert table_of(root) == table_of(expected)
    assert states_of(root) == states_of(expected)
    assert sum(summary.num_videos for summary in summaries) == 18
    assert all(summary.num_commits >= 1 and summary.num_skipped >= 1 for summary in summaries)


def test_killed_writers_leave_a_table_that_the_next_run_completes(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    TokenDataset.create_or_open(root, sample_lineage())
    seen = [0]
    for seed in range(3):
        writer = context.Process(target=write_shuffled, args=(str(root), seed, 24, 0.02))
        writer.start()
        assert writer.pid is not None
        _wait_for_version(root, TokenDataset.open(root).version + 1 + seed % 2)
        time.sleep(random.Random(seed).uniform(0, 0.1))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        seen.append(len(states_of(root)))
    assert all(before < after for before, after in pairwise(seen))
    write_shuffled(str(root), 9, 24, 0.0)
    expected = root.parent / "undisturbed"
    commit_all(expected, flat(corpus(24).values()))
    assert table_of(root) == table_of(expected)
    assert states_of(root) == states_of(expected)


def _wait_for_version(root: Path, version: int, timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while TokenDataset.open(root).version < version:
        assert time.monotonic() < deadline_s, "the writer commits nothing"
        time.sleep(0.01)


@pytest.mark.parametrize("rival", ["writer", "compaction", "new column"])
def test_a_swap_fails_if_anything_was_committed_since_the_refresh(root: Path, rival: str) -> None:
    small_files = CommitConfig(every_clips=1, target_file_bytes=1)
    commit_all(root, flat(corpus(6).values()), small_files)
    table = TokenDataset.open(root).clips
    changed = CompletedUnit(
        work_unit("000", "2"), (tokenized_clip(work_unit("000", "2"), 0),), None
    )
    file = table.write(token_rows([changed], sample_lineage(), "run"))
    outgoing = [work_unit("000").video_id]
    table.refresh()
    if rival == "writer":
        commit_all(root, unit_records(work_unit("000", "2"), 1))
    elif rival == "compaction":
        DeltaTable(str(root)).optimize.compact()
    else:
        TokenDataset.open(root).add_attributes(["caption"])
    with pytest.raises(CommitConflictError):
        table.swap(outgoing, [file], {})
    table.refresh()
    table.swap(outgoing, [file], {})
    rows = [row for row in table_of(root) if row["video_uri"] == "file:///videos/000"]
    assert [row["video_fingerprint"] for row in rows] == [changed.unit.fingerprint]
    assert len(table_of(root)) == 11
