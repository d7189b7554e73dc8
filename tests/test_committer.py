"""Exactly once, whole units only: any order, repeated delivery, crashes, several writers."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import CommitConfig, CommitSummary, Committer, TokenDataset
from pipeline.dataset.assembly import UnitAssembler
from pipeline.errors import DatasetError, PipelineError
from pipeline.planning import plan_units
from pipeline.records import UnitEnd
from tests.token_samples import (
    commit_all,
    corpus,
    flat,
    listed_video,
    quarantined,
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


# --- assembling units -------------------------------------------------------------------------


@settings(deadline=None)
@given(data=st.data())
def test_a_unit_completes_exactly_once_in_any_order_of_arrival(data: st.DataObject) -> None:
    records = flat(corpus(5).values())
    repeated = data.draw(st.lists(st.sampled_from(records), max_size=8))
    arrivals = data.draw(st.permutations(records + repeated))
    assembler = UnitAssembler()
    completed = [unit for record in arrivals if (unit := assembler.add(record)) is not None]
    assert sorted(unit.unit.uri[-3:] for unit in completed) == [f"{i:03}" for i in range(5)]
    for unit in completed:
        assert [clip.window.clip_index for clip in unit.clips] == list(range(len(unit.clips)))
        assert (unit.quarantine is None) == (len(unit.clips) > 0)
    assert assembler.incomplete() == []


def test_clips_under_way_are_dropped_when_their_unit_is_quarantined() -> None:
    unit = work_unit("a")
    assembler = UnitAssembler()
    assert assembler.add(tokenized_clip(unit, 0)) is None
    completed = assembler.add(quarantined(unit))
    assert completed is not None
    assert completed.clips == ()
    assert assembler.add(tokenized_clip(unit, 1)) is None
    assert assembler.incomplete() == []


def test_contradictions_within_a_unit_stop_the_job() -> None:
    unit = work_unit("a")
    with pytest.raises(PipelineError, match="0 clips and no quarantine"):
        UnitAssembler().add(UnitEnd(unit, 0))
    assembler = UnitAssembler()
    for index in range(2):
        assembler.add(tokenized_clip(unit, index))
    with pytest.raises(PipelineError, match="1 clips announced, 2 different ones"):
        assembler.add(UnitEnd(unit, 1))
    for first in (tokenized_clip(unit, 0), quarantined(unit)):
        assembler = UnitAssembler()
        assembler.add(first)
        with pytest.raises(PipelineError, match="two states within one run"):
            assembler.add(UnitEnd(work_unit("a", "2"), 1))


# --- one writer -------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), file_bytes=st.sampled_from([1, 100, 10**6]))
def test_order_repetition_and_file_sizes_do_not_change_the_table(
    tmp_path_factory: pytest.TempPathFactory, seed: int, file_bytes: int
) -> None:
    root = tmp_path_factory.mktemp("any") / "tokens"
    records = flat(corpus(8).values())
    expected_root = tmp_path_factory.mktemp("straight") / "tokens"
    straight = commit_all(expected_root, records)
    shuffled = records + random.Random(seed).choices(records, k=10)
    random.Random(seed).shuffle(shuffled)
    config = CommitConfig(every_clips=1 + seed % 7, target_file_bytes=file_bytes)
    summary = commit_all(root, shuffled, config)
    assert table_of(root) == table_of(expected_root)
    assert states_of(root) == states_of(expected_root)
    assert (straight.num_videos, straight.num_clips, straight.num_quarantined) == (6, 12, 2)
    assert (summary.num_videos, summary.num_clips, summary.num_quarantined) == (6, 12, 2)


def test_one_run_is_one_commit_of_files_in_clip_order(root: Path) -> None:
    summary = commit_all(root, reversed(flat(corpus(8).values())))
    table = DeltaTable(str(root))
    assert (summary.num_commits, table.version()) == (1, 1)
    rows = TokenDataset.open(root).rows(["video_uri", "clip_index"]).read_all()
    keys = list(zip(*rows.to_pydict().values(), strict=True))
    assert keys == sorted(keys)
    assert table.history(1)[0]["sweettok.run_id"] == "run"
    assert pa.table(table.get_add_actions())["num_records"].to_pylist() == [12]


def test_commits_during_the_run_show_only_whole_units(root: Path) -> None:
    config = CommitConfig(every_clips=3, target_file_bytes=1)
    committer = Committer(TokenDataset.create_or_open(root, sample_lineage()), "run", config)
    long = unit_records(work_unit("long"), 6)
    for record in [*long[:5], *unit_records(work_unit("short"), 3), long[6]]:
        committer.add(record)
    assert {row["video_uri"] for row in table_of(root)} == {"file:///videos/short"}
    committer.add(long[5])
    assert TokenDataset.open(root).num_clips() == 9
    assert committer.close().num_commits == 2


def test_a_commit_is_due_after_its_interval(root: Path) -> None:
    committer = Committer(
        TokenDataset.create_or_open(root, sample_lineage()), "run", CommitConfig(every_s=0.01)
    )
    time.sleep(0.02)
    for record in unit_records(work_unit("a"), 1):
        committer.add(record)
    assert TokenDataset.open(root).num_clips() == 1


def test_adding_tells_which_unit_became_whole(root: Path) -> None:
    committer = Committer(TokenDataset.create_or_open(root, sample_lineage()), "run")
    records = [*unit_records(work_unit("a"), 2), quarantined(work_unit("b"))]
    made_whole = [committer.add(record) for record in [*records, *records]]
    uris = [done and (done.unit.uri[-1], done.quarantine is None) for done in made_whole]
    assert uris == [None, None, ("a", True), ("b", False), None, None, None, None]


def test_what_waits_can_be_committed_when_no_record_comes(root: Path) -> None:
    committer = Committer(
        TokenDataset.create_or_open(root, sample_lineage()), "run", CommitConfig(every_s=0.3)
    )
    for record in unit_records(work_unit("a"), 1):
        committer.add(record)
    committer.commit_if_due()
    assert TokenDataset.open(root).num_clips() == 0
    time.sleep(0.3)
    committer.commit_if_due()
    assert TokenDataset.open(root).num_clips() == 1


def test_closing_with_incomplete_units_commits_the_others_and_names_them(root: Path) -> None:
    records = [
        *unit_records(work_unit("whole"), 2),
        *unit_records(work_unit("cut"), 3)[1:],
        tokenized_clip(work_unit("endless"), 0),
    ]
    with pytest.raises(PipelineError) as caught:
        commit_all(root, records)
    message = str(caught.value)
    assert "2 videos did not arrive completely" in message
    assert "file:///videos/cut: 2 of its 3 clips arrived" in message
    assert "file:///videos/endless: its end never arrived (1 clips did)" in message
    assert {row["video_uri"] for row in table_of(root)} == {"file:///videos/whole"}


def test_running_again_adds_nothing(root: Path) -> None:
    records = flat(corpus(8).values())
    commit_all(root, records)
    before, version = table_of(root), TokenDataset.open(root).version
    again = commit_all(root, records, run_id="again")
    assert again == CommitSummary(num_skipped=6, num_quarantined=2)
    assert table_of(root) == before
    assert TokenDataset.open(root).version == version


# --- changed and retried videos ---------------------------------------------------------------


def test_a_changed_video_replaces_its_rows_in_one_commit(root: Path) -> None:
    commit_all(root, flat(corpus(6).values()))
    changed = unit_records(work_unit("000", "2"), 3)
    summary = commit_all(root, [*changed, *unit_records(work_unit("new"), 1)])
    assert (summary.num_replaced, summary.num_videos, summary.num_commits) == (1, 2, 1)
    rows = [row for row in table_of(root) if row["video_uri"] == "file:///videos/000"]
    assert [row["clip_id"] for row in rows] == [clip.clip_id for clip in changed[:3]]
    others = [row for row in table_of(root) if row["video_uri"] != "file:///videos/000"]
    fresh = root.parent / "fresh"
    commit_all(fresh, [*flat(list(corpus(6).values())[1:]), *unit_records(work_unit("new"), 1)])
    assert others == table_of(fresh)
    counts = [TokenDataset.open(root, version=v).num_clips() for v in range(3)]
    assert counts == [0, 11, 14]


def test_a_changed_video_that_is_broken_now_moves_to_quarantine(root: Path) -> None:
    commit_all(root, unit_records(work_unit("a"), 2))
    summary = commit_all(root, [quarantined(work_unit("a", "2"))])
    assert (summary.num_replaced, summary.num_quarantined) == (1, 1)
    assert table_of(root) == []
    (row,) = TokenDataset.open(root).quarantine().to_pylist()
    assert row["video_fingerprint"] == work_unit("a", "2").fingerprint
    assert (row["reason"], row["stage"], row["attempts"]) == ("not_a_video", "decode", 2)
    assert (row["error_class"], row["message"]) == ("InvalidDataError", "moov atom not found")
    assert (row["run_id"], row["video_uri"]) == ("run", "file:///videos/a")


def test_a_retried_video_leaves_quarantine_or_refreshes_its_row(root: Path) -> None:
    commit_all(root, [quarantined(work_unit("a")), quarantined(work_unit("b"))])
    retried = [*unit_records(work_unit("a"), 1), quarantined(work_unit("b"), "still broken")]
    commit_all(root, retried, run_id="retry")
    (row,) = TokenDataset.open(root).quarantine().to_pylist()
    assert (row["message"], row["run_id"]) == ("still broken", "retry")
    assert DeltaTable(str(root / "_quarantine")).count() == 1
    assert sorted(states_of(root).values()) == ["quarantined", "tokens"]


def test_a_late_quarantine_does_not_displace_tokens_of_the_same_state(root: Path) -> None:
    commit_all(root, unit_records(work_unit("a"), 2))
    summary = commit_all(root, [quarantined(work_unit("a"))])
    assert (summary.num_skipped, summary.num_quarantined) == (1, 0)
    assert TokenDataset.open(root).quarantine().num_rows == 0
    assert len(table_of(root)) == 2


def test_a_quarantine_that_others_have_settled_meanwhile_is_counted_as_skipped(root: Path) -> None:
    committer = Committer(TokenDataset.create_or_open(root, sample_lineage()), "run")
    for name in ("tokenized", "taken"):
        committer.add(quarantined(work_unit(name, "2")))
    # What happens between the two commits of one `commit`: the first one finds nothing to do.
    committer._commit_clips()
    commit_all(root, unit_records(work_unit("tokenized"), 1))
    TokenDataset.open(root).take_down(["file:///videos/taken"], run_id="legal", reason="x")
    committer._dataset.refresh()
    committer._commit_quarantine()
    assert (committer.summary.num_quarantined, committer.summary.num_skipped) == (0, 2)
    states = states_of(root)
    assert sorted(states.values()) == ["taken_down", "tokens"]


# --- crashes ----------------------------------------------------------------------------------


def test_data_files_without_a_commit_are_invisible_and_the_work_is_done_again(root: Path) -> None:
    dataset = TokenDataset.create_or_open(root, sample_lineage())
    abandoned = Committer(dataset, "crashed", CommitConfig(target_file_bytes=1))
    records = flat(corpus(6).values())
    for record in records:
        abandoned.add(record)
    assert len(list(root.glob("part-*.parquet"))) == 5
    assert (table_of(root), states_of(root)) == ([], {})
    commit_all(root, records)
    expected = root.parent / "undisturbed"
    commit_all(expected, records)
    assert table_of(root) == table_of(expected)


def test_a_crash_between_the_two_commits_heals(root: Path) -> None:
    commit_all(root, [quarantined(work_unit("retried")), *unit_records(work_unit("changed"), 2)])
    # Something in the way of the quarantine's next version stops the run after its first commit.
    obstacle = root / "_quarantine" / "_delta_log" / "00000000000000000002.json"
    obstacle.mkdir()
    second_run = [
        *unit_records(work_unit("retried"), 1),
        quarantined(work_unit("changed", "2")),
        quarantined(work_unit("broken")),
    ]
    with pytest.raises(DatasetError, match="_quarantine"):
        commit_all(root, second_run, CommitConfig(attempts=2))
    obstacle.rmdir()
    assert DeltaTable(str(root / "_quarantine")).count() == 1
    assert states_of(root) == {work_unit("retried").video_id: "tokens"}

    listing = [
        listed_video("retried"), listed_video("changed", "2"), listed_video("broken")
    ]  # fmt: skip
    units, _ = plan_units(listing, TokenDataset.open(root).finished_units())
    assert {unit.uri[-7:] for unit in units} == {"changed", "/broken"}
    commit_all(root, [quarantined(unit) for unit in units])
    assert sorted(states_of(root).values()) == ["quarantined", "quarantined", "tokens"]
    assert DeltaTable(str(root / "_quarantine")).count() == 2
