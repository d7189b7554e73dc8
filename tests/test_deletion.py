"""Videos that leave a dataset: removed inputs, takedowns, and who may bring them back."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import CommitConfig, Committer
from pipeline.dataset.assembly import CompletedUnit
from pipeline.dataset.commits import COMMIT_ID, CommitConflictError
from pipeline.dataset.deletion import Removal
from pipeline.dataset.finished_units import STATE_TAKEN_DOWN
from pipeline.dataset.rows import quarantine_rows, token_rows
from pipeline.errors import DatasetError, QuarantineReason
from pipeline.records import Quarantine
from tests.dataset_places import Place, local_place, s3_place
from tests.token_samples import (
    corpus,
    flat,
    quarantined,
    sample_lineage,
    tokenized_clip,
    unit_records,
    work_unit,
)

TAKEN = "file:///videos/000"
TAKEN_PAIR = (TAKEN, "file:///videos/001")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return local_place(tmp_path)


def ids(*names: str) -> pa.Array:
    return pa.array([work_unit(name).video_id for name in names], pa.string())


def uris(place: Place, **options: int) -> set[object]:
    return {row["video_uri"] for row in place.rows(**options)}


def states(place: Place) -> dict[str, str]:
    rows = place.open().finished_units().to_table().to_pylist()
    assert len({row["video_id"] for row in rows}) == len(rows)
    return {row["video_id"]: row["state"] for row in rows}


# --- removed inputs ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_deleted_videos_leave_both_tables_and_older_versions_keep_them(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = local_place(tmp_path)
    if kind == "s3":
        place = s3_place(request.getfixturevalue("endpoint_url"))
    place.commit(flat(corpus(8).values()), CommitConfig(every_clips=3, target_file_bytes=1))
    dataset, before = place.open(), place.rows()
    version = dataset.version
    leaving = pa.chunked_array([ids("000", "003"), ids("005", "nobody")])
    assert dataset.delete_videos(leaving, run_id="refresh", reason="removed") == 3
    gone = {f"file:///videos/{name}" for name in ("000", "005")}
    assert place.rows() == [row for row in before if row["video_uri"] not in gone]
    assert place.rows(version) == before
    assert states(place).keys() == set(ids("001", "002", "004", "006", "007").to_pylist())
    assert dataset.version == place.open().version == version + 1
    assert dataset.delete_videos(leaving, run_id="refresh", reason="removed") == 0
    assert place.open().version == version + 1
    entry = dataset.clips._table.history(1)[0]
    assert (entry["sweettok.run_id"], entry["sweettok.reason"]) == ("refresh", "removed")
    assert len(entry[COMMIT_ID]) == 32


def test_deleting_beside_a_committer_needs_no_file_twice(place: Place) -> None:
    place.commit(flat(corpus(8).values()))
    table = place.open().clips
    num_files = len(place.data_files())
    for rival in ("a", "b"):
        place.commit(unit_records(work_unit(rival), 1))
        with pytest.raises(CommitConflictError):
            table.swap(ids("000"), [], {})
    table.refresh()
    table.swap(ids("000"), [], {})
    assert len(place.data_files()) == num_files + 2 + 1  # the rivals' files and one without 000
    assert uris(place) >= {"file:///videos/a", "file:///videos/b"}
    assert TAKEN not in uris(place)


# --- takedowns --------------------------------------------------------------------------------


def test_what_was_taken_down_is_never_tokenized_again_until_it_is_lifted(place: Place) -> None:
    place.commit(flat(corpus(4).values()))
    dataset, before = place.open(), place.rows()
    taken = (TAKEN, work_unit("001").video_id, "/videos/never seen.mp4")
    removal = dataset.take_down(taken, run_id="legal", reason="request 17")
    num_clips = sum(row["video_uri"] in TAKEN_PAIR for row in before)
    assert removal == Removal(3, 2, num_clips, taken[2:])
    assert uris(place) == {"file:///videos/002"}
    assert sorted(states(place).values()).count(STATE_TAKEN_DOWN) == 3
    row = next(row for row in dataset.quarantine().to_pylist() if row["video_uri"] == TAKEN)
    assert (row["reason"], row["message"], row["run_id"]) == ("taken_down", "request 17", "legal")
    assert row["video_fingerprint"] == work_unit("000").fingerprint
    unseen = work_unit("never seen.mp4").uri.replace(" ", "%20")
    assert unseen in dataset.quarantine()["video_uri"].to_pylist()

    changed = [*unit_records(work_unit("000", "2"), 2), quarantined(work_unit("001", "2"))]
    summary = place.commit(changed)
    assert (summary.num_videos, summary.num_quarantined, summary.num_skipped) == (0, 0, 2)
    assert dataset.delete_videos(ids("000"), run_id="refresh", reason="removed") == 0
    assert uris(place) == {"file:///videos/002"}
    version = place.open().version
    assert dataset.take_down([TAKEN], run_id="legal", reason="again") == Removal()
    assert dataset.take_down(taken, run_id="legal", reason="again") == Removal(unknown=taken[2:])
    assert place.open().version == version

    assert dataset.lift_takedown([TAKEN, "file:///videos/002"], run_id="legal") == 1
    assert place.commit(changed).num_videos == 1
    assert uris(place) == {TAKEN, "file:///videos/002"}


def test_an_unknown_id_cannot_be_taken_down_but_a_uri_can(place: Place) -> None:
    place.commit(unit_records(work_unit("a"), 1))
    with pytest.raises(DatasetError, match="give its URI"):
        place.open().take_down(["0" * 32], run_id="legal", reason="x")
    member = "file:///shards/0.tar#clip%20a.mp4"
    place.open().take_down([member], run_id="legal", reason="x")
    assert place.open().quarantine()["video_uri"].to_pylist() == [member]


def test_a_run_under_way_cannot_bring_a_video_back(place: Place) -> None:
    place.commit(unit_records(work_unit("other"), 1))
    committer = Committer(place.open(), "run", CommitConfig(target_file_bytes=1))
    for record in [*unit_records(work_unit("000"), 2), *unit_records(work_unit("kept"), 2)]:
        committer.add(record)
    removal = place.open().take_down([TAKEN], run_id="legal", reason="x")
    assert (removal.num_forbidden, removal.num_videos) == (1, 0)
    summary = committer.close()
    assert (summary.num_videos, summary.num_skipped) == (1, 1)
    assert uris(place) == {"file:///videos/other", "file:///videos/kept"}


def test_a_takedown_makes_everybody_look_again_even_if_it_deletes_nothing(place: Place) -> None:
    place.commit(unit_records(work_unit("other"), 1))
    table = place.open().clips
    unit = work_unit("000")
    rows = token_rows(
        [CompletedUnit(unit, (tokenized_clip(unit, 0),), None)], sample_lineage(), "run"
    )
    file = table.write(rows)
    table.refresh()  # here a committer looks, and finds no takedown
    place.open().take_down([TAKEN], run_id="legal", reason="x")
    with pytest.raises(CommitConflictError):
        table.swap([], [file], {})


def test_a_takedown_that_was_stopped_half_way_is_completed_by_the_next_commit(
    place: Place,
) -> None:
    place.commit(flat(corpus(3).values()))
    why = Quarantine(QuarantineReason.TAKEN_DOWN, "takedown", "Takedown", "x", 0)
    rows = quarantine_rows([CompletedUnit(work_unit("000"), (), why)], "legal")
    table = place.open().quarantined
    table.swap([], [table.write(rows)], {})
    assert TAKEN in uris(place)
    assert states(place)[work_unit("000").video_id] == STATE_TAKEN_DOWN
    place.commit(unit_records(work_unit("other"), 1))
    assert TAKEN not in uris(place)
    assert states(place)[work_unit("000").video_id] == STATE_TAKEN_DOWN


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_takedowns_between_commits_never_leave_a_taken_video(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = local_place(tmp_path_factory.mktemp("any"))
    place.commit([])
    streams = [flat(data.draw(st.permutations(list(corpus(5).values())))) for _ in range(2)]
    config = CommitConfig(every_clips=data.draw(st.integers(1, 4)), target_file_bytes=100)
    committers = [Committer(place.open(), f"run-{i}", config) for i in range(2)]
    taken = data.draw(st.sampled_from(["000", "001", "003"]))
    when = data.draw(st.integers(0, sum(map(len, streams))))
    for step in range(sum(map(len, streams)) + 1):
        if step == when:
            place.open().take_down([f"file:///videos/{taken}"], run_id="legal", reason="x")
        if any(streams):
            index = data.draw(st.sampled_from([i for i in range(2) if streams[i]]))
            committers[index].add(streams[index].pop(0))
    for committer in committers:
        committer.close()
    names = {"000", "001", "002", "003", "004"} - {taken}
    assert uris(place) == {f"file:///videos/{name}" for name in names - {"003"}}
    expected = dict.fromkeys(ids(*(names - {"003"})).to_pylist(), "tokens")
    expected |= {work_unit("003").video_id: "quarantined", work_unit(taken).video_id: "taken_down"}
    assert states(place) == expected
