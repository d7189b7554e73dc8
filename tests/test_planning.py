"""What needs work: the listing minus what the dataset holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import TokenDataset
from pipeline.dataset.finished_units import FinishedUnits
from pipeline.errors import DatasetError, PipelineError, QuarantineReason
from pipeline.id_index import (
    KeyColumns,
    SortedIds,
    ids_of_keys,
    is_repeated,
    keys_of_packed,
    packed_ids,
    sorted_order,
    unpacked_ids,
)
from pipeline.planning import Plan, PlanCounts, plan, plan_units
from pipeline.records import ArchiveMember, InputFault, ListedVideo, WorkUnit
from pipeline.sources.batches import batches_of, videos_of
from pipeline.transport import table_to_records
from pipeline.unit_table import UnitTable
from tests.token_samples import commit_all, listed_video, unit_records, work_unit

NAMES = st.sampled_from("abcdefgh")
VERSIONS = st.sampled_from("12")
FAULT = InputFault(QuarantineReason.BAD_METADATA, "member 'd.json' is not JSON")
TRUNCATED, EMPTY = QuarantineReason.TRUNCATED, QuarantineReason.EMPTY
STATES = st.sampled_from(
    [("tokens", None), ("quarantined", "truncated"), ("quarantined", "empty"),
     ("taken_down", "taken_down")]
)  # fmt: skip
HALVES = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])
KEYS = st.lists(st.tuples(HALVES, HALVES))

Finished = tuple[ListedVideo, str, str | None]


def finished_units(rows: Sequence[Finished]) -> FinishedUnits:
    """What a dataset with these videos would have, those with tokens in files of two."""
    tokens = [video for video, state, _ in rows if state == "tokens"]
    tables = [
        pa.table(
            {
                "video_id": packed_ids(pa.array([video.video_id for video in few])),
                "video_fingerprint": packed_ids(pa.array([video.fingerprint for video in few])),
            }
        )
        for few in (tokens[start : start + 2] for start in range(0, len(tokens), 2))
    ]
    others = [(video, reason) for video, _, reason in rows if reason is not None]
    quarantined = {
        "video_id": [video.video_id for video, _ in others],
        "video_fingerprint": [video.fingerprint for video, _ in others],
        "reason": [reason for _, reason in others],
    }
    columns = {name: pa.array(values, pa.string()) for name, values in quarantined.items()}
    return FinishedUnits(lambda: tables, pa.table(columns))


def plan_in_batches(
    videos: Sequence[ListedVideo],
    rows: Sequence[Finished],
    sizes: Sequence[int],
    retried: Sequence[QuarantineReason] = (),
) -> Plan:
    """A plan over a listing that comes in batches of `sizes`, over and over."""

    def batches() -> Iterator[pa.RecordBatch]:
        start = number = 0
        while start < len(videos):
            end = start + sizes[number % len(sizes)]
            yield from batches_of(videos[start:end])
            start, number = end, number + 1

    return plan(batches(), finished_units(rows), retry_quarantined=retried)


@dataclass
class SlowPlan:
    """The same comparison, one video after the other."""

    units: list[WorkUnit] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1


def slow_plan(
    videos: Sequence[ListedVideo], rows: Sequence[Finished], retried: Sequence[QuarantineReason]
) -> SlowPlan:
    result = SlowPlan()
    known = {video.video_id: (video.fingerprint, state, reason) for video, state, reason in rows}
    seen: set[str] = set()
    for video in videos:
        result.count("num_listed")
        if video.video_id in seen:
            result.count("num_repeated")
            continue
        seen.add(video.video_id)
        fingerprint, state, reason = known.get(video.video_id, (None, "new", None))
        is_work = True
        if state in ("new", "taken_down"):
            result.count(f"num_{state}")
            is_work = state == "new"
        elif fingerprint != video.fingerprint:
            result.count("num_changed")
        elif state == "tokens":
            result.count("num_tokenized")
            is_work = False
        else:
            result.count("num_quarantined")
            is_work = reason in retried
        if is_work:
            result.units.append(WorkUnit.from_listed(video))
    for video_id, (_, state, _) in known.items():
        if state != "taken_down":
            result.count("num_finished")
            if video_id not in seen:
                result.count("num_removed")
                result.removed.add(video_id)
    return result


def test_only_new_and_changed_videos_are_work() -> None:
    rows = [
        (listed_video("same"), "tokens", None),
        (listed_video("changed", "1"), "tokens", None),
        (listed_video("broken"), "quarantined", "empty"),
        (listed_video("repaired", "1"), "quarantined", "truncated"),
        (listed_video("gone"), "tokens", None),
        (listed_video("gone too"), "quarantined", "empty"),
        (listed_video("forbidden", "1"), "taken_down", "taken_down"),
        (listed_video("forbidden and gone"), "taken_down", "taken_down"),
    ]
    listing = [
        listed_video("new", caption="a dog"),
        listed_video("same"),
        listed_video("changed", "2"),
        listed_video("broken"),
        listed_video("repaired", "2"),
        listed_video("forbidden", "2"),
        listed_video("new", caption="a cat"),
    ]
    planned = plan_in_batches(listing, rows, sizes=[3])
    units = list(planned.units)
    assert [unit.uri.rpartition("/")[2] for unit in units] == ["new", "changed", "repaired"]
    assert units[0].attributes == {"caption": "a dog"}
    assert set(planned.removed.to_pylist()) == {
        listed_video("gone").video_id, listed_video("gone too").video_id
    }  # fmt: skip
    assert planned.counts == PlanCounts(
        num_listed=7, num_repeated=1, num_new=1, num_changed=2, num_tokenized=1, num_quarantined=1,
        num_taken_down=1, num_removed=2, num_finished=6,
    )  # fmt: skip


def test_quarantined_videos_come_back_for_the_reasons_asked_for() -> None:
    rows = [
        (listed_video("cut"), "quarantined", "truncated"),
        (listed_video("hollow"), "quarantined", "empty"),
        (listed_video("forbidden"), "taken_down", "taken_down"),
    ]
    listing = [video for video, _, _ in rows]
    for retried, names in (((), ""), ((EMPTY,), "hollow"), ((EMPTY, TRUNCATED), "cut hollow")):
        planned = plan_in_batches(listing, rows, [2], retried)
        assert [unit.uri.rpartition("/")[2] for unit in planned.units] == names.split()
        assert planned.counts.num_quarantined == 2
    everything = plan_in_batches(listing, rows, [2], tuple(QuarantineReason))
    assert len(everything.units) == 2


@settings(deadline=None)
@given(
    listing=st.lists(st.tuples(NAMES, VERSIONS)),
    known=st.dictionaries(NAMES, st.tuples(VERSIONS, STATES)),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    retried=st.sets(st.sampled_from([TRUNCATED, EMPTY])),
)
def test_it_is_what_looking_at_every_video_gives(
    listing: list[tuple[str, str]],
    known: dict[str, tuple[str, tuple[str, str | None]]],
    sizes: list[int],
    retried: set[QuarantineReason],
) -> None:
    videos = [
        listed_video(name, version, place=str(place))
        for place, (name, version) in enumerate(listing)
    ]
    rows = [(listed_video(name, version), *state) for name, (version, state) in known.items()]
    planned = plan_in_batches(videos, rows, sizes, tuple(retried))
    expected = slow_plan(videos, rows, tuple(retried))
    assert list(planned.units) == expected.units
    assert sorted(planned.removed.to_pylist()) == sorted(expected.removed)
    assert planned.counts == PlanCounts(**expected.counts)

    done = [(video, "tokens", None) for video in {v.video_id: v for v in reversed(videos)}.values()]
    again = plan_in_batches(videos, done, sizes)
    assert (len(again.units), len(again.removed)) == (0, 0)


def test_what_was_taken_down_before_it_was_ever_seen_is_left_alone() -> None:
    video = listed_video("unseen")
    row = {"video_id": [video.video_id], "video_fingerprint": [""], "reason": ["taken_down"]}
    finished = FinishedUnits(list, pa.table(row))
    units, counts = plan_units([video], finished)
    assert (len(units), counts.num_taken_down, counts.num_removed) == (0, 1, 0)
    assert finished.to_table().to_pylist() == [
        {name: values[0] for name, values in row.items()} | {"state": "taken_down"}
    ]


def test_a_video_in_two_files_and_in_quarantine_counts_once() -> None:
    """As a run leaves it that was stopped between its commits."""
    rows: list[Finished] = [(listed_video("a"), "tokens", None)] * 3
    finished = finished_units([*rows, (listed_video("a"), "quarantined", "empty")])
    assert finished.to_table()["state"].to_pylist() == ["tokens"]
    planned = plan(batches_of([]), finished)
    assert planned.removed.to_pylist() == [listed_video("a").video_id]
    assert planned.counts == PlanCounts(num_removed=1, num_finished=1)


def test_a_takedown_wins_over_whatever_else_is_stored_of_its_video() -> None:
    """As a takedown leaves it that was stopped half-way, beside an older quarantine row."""
    rows: list[Finished] = [
        (listed_video("a"), "tokens", None),
        (listed_video("b"), "tokens", None),
        (listed_video("b"), "quarantined", "empty"),
        (listed_video("b"), "taken_down", "taken_down"),
    ]
    states = finished_units(rows).to_table().sort_by("state").select(["video_id", "state"])
    assert states.to_pylist() == [
        {"video_id": listed_video("b").video_id, "state": "taken_down"},
        {"video_id": listed_video("a").video_id, "state": "tokens"},
    ]


def test_what_another_program_wrote_is_refused(tmp_path: Path) -> None:
    for name, odd, what in (
        ("video_id", "no id", r"column video_id of part-.*'no id'.*restore"),
        ("video_fingerprint", "g" * 32, r"video_fingerprint.*0-9 and a-f"),
    ):
        root = tmp_path / name
        commit_all(root, unit_records(work_unit("a"), 1))
        dataset = TokenDataset.open(root)
        rows = dataset.rows().read_all()
        place = rows.schema.get_field_index(name)
        foreign = rows.set_column(place, name, pa.array([odd]))
        dataset.clips.swap([], [dataset.clips.write(foreign)], {})
        with pytest.raises(DatasetError, match=what):
            plan_units([], dataset.finished_units())


@given(stored=KEYS, wanted=KEYS)
def test_keys_are_found_also_where_half_of_them_is_shared(
    stored: list[tuple[int, int]], wanted: list[tuple[int, int]]
) -> None:
    high, low = halves_of(stored)
    order = sorted_order(high, low)
    assert order.tolist() == sorted(range(len(stored)), key=lambda place: stored[place])
    distinct = sorted(set(stored))
    positions = SortedIds(*halves_of(distinct)).positions(as_keys(wanted))
    assert positions.tolist() == [distinct.index(k) if k in distinct else -1 for k in wanted]
    repeated = [key in wanted[:place] for place, key in enumerate(wanted)]
    assert is_repeated(*halves_of(wanted)).tolist() == repeated


@given(keys=KEYS, start=st.integers(0, 5))
def test_ids_packed_ids_and_keys_are_the_same_thing(
    keys: list[tuple[int, int]], start: int
) -> None:
    ids = ids_of_keys(as_keys(keys))
    assert ids.to_pylist() == [f"{high:016x}{low:016x}" for high, low in keys]
    chunked = pa.chunked_array([ids.slice(start), ids.slice(0, start)], pa.string())
    packed = packed_ids(chunked)
    assert b"".join(packed.to_pylist()).hex() == "".join(chunked.to_pylist())
    assert unpacked_ids(packed).to_pylist() == chunked.to_pylist()
    again = [keys_of_packed(chunk) for chunk in packed.chunks]
    assert np.concatenate(again).tolist() == as_keys([*keys[start:], *keys[:start]]).tolist()


def test_an_empty_id_is_packed_only_where_it_may_be_empty() -> None:
    ids = pa.array(["a" * 32, ""])
    packed = packed_ids(ids, allow_empty=True)
    assert packed.to_pylist() == [b"\xaa" * 16, None]
    assert unpacked_ids(packed).to_pylist() == ids.to_pylist()
    with pytest.raises(ValueError, match="'' is no id"):
        packed_ids(ids)


def halves_of(keys: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The halves of keys that come one at a time."""
    columns = KeyColumns()
    for key in keys:
        columns.add(as_keys([key]))
    return columns.take()


def as_keys(keys: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array(keys, np.uint64).reshape(-1, 2)


def test_many_units_wait_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are held in memory; of those listed twice in different batches the first count."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    videos = [listed_video(f"{number}", number=str(number)) for number in range(60_000)]
    planned = plan_in_batches([*videos, *videos[10_000:]], [], sizes=[25_000])
    assert (planned.counts.num_new, planned.counts.num_repeated) == (60_000, 50_000)
    assert len(planned.units) == 60_000
    assert planned.units.slice(59_999, 5) == [WorkUnit.from_listed(videos[-1])]
    uris = planned.units.table["uri"].to_pylist()
    assert uris == [video.uri for video in videos]
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(PipelineError, match=r"does not fit into .*nowhere.*TMPDIR"):
        plan_in_batches(videos, [], sizes=[60_000])


def test_a_unit_table_holds_units() -> None:
    units = [
        work_unit("a", caption="a dog", split="train"),
        work_unit("b"),
        WorkUnit("id", "s3://b/0.tar#c.mp4", "print", 7, {}, member=ArchiveMember(512, 7)),
        WorkUnit("bad", "s3://b/0.tar#d.mp4", "print", 0, fault=FAULT),
    ]
    table = UnitTable.from_units(units)
    assert (len(table), list(table)) == (4, units)
    assert table.slice(1, 5) == units[1:]
    assert table.attributes == ["caption", "split"]
    blocks = table.tables(2)
    assert [block.num_rows for block in blocks] == [2, 2]
    assert [unit for block in blocks for unit in table_to_records(block)] == units
    assert list(UnitTable.from_units([])) == UnitTable.from_units([]).tables(4) == []


def test_a_listing_survives_being_packed() -> None:
    videos = [
        listed_video("a", caption="ü\n\"", label=""),
        ListedVideo("s3://b/0.tar#c.mp4", 7, "v", {}, ArchiveMember(0, 7), FAULT),
    ]  # fmt: skip
    (batch,) = batches_of(videos)
    assert list(videos_of(batch)) == videos
    (unit,), _ = plan_units(videos[1:], FinishedUnits.none())
    assert unit == WorkUnit.from_listed(videos[1])
