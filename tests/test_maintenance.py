"""Maintenance as a whole: what it deletes, what it must not delete, and what it says."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable

from pipeline.dataset import CommitConfig, Committer, TokenDataset
from pipeline.dataset.clean_up import VACUUM_REASON, unneeded_files
from pipeline.dataset.data_files import MAX_WAIT_S
from pipeline.dataset.deletion import Removal
from pipeline.dataset.video_table import VideoTable
from pipeline.errors import DatasetError
from pipeline.maintenance import MaintainConfig, MaintenanceSummary, maintain_dataset
from sweettok.errors import ConfigError
from tests.dataset_places import Place, local_place, s3_place
from tests.job_runs import run_plain
from tests.token_samples import corpus, flat, sample_lineage, unit_records, work_unit

TAKEN = "file:///videos/001"
SMALL_COMMITS = CommitConfig(every_clips=2, target_file_bytes=1)
LONG_AGO_S = 30 * 24 * 3600


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return s3_place(request.getfixturevalue("endpoint_url"))
    return local_place(tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return local_place(tmp_path)


def maintain(place: Place, **settings: object) -> MaintenanceSummary:
    """Keeps nothing but the newest version and what is pinned, unless `settings` say otherwise."""
    values: dict[str, object] = {
        "dataset": {"uri": place.uri, "storage": place.storage.to_mapping()},
        "clean_up": {"retention_h": 0},
    }
    return maintain_dataset(MaintainConfig.from_mapping(values | settings, origin="test"))


def ids_in(place: Place) -> set[object]:
    return {row["video_id"] for row in place.stored_rows()}


def make_old(place: Place) -> None:
    """As if everything in the place had been written a month ago."""
    for path in Path(place.uri).rglob("*"):
        os.utime(path, (time.time() - LONG_AGO_S,) * 2)


# --- takedown, pins, vacuum -------------------------------------------------------------------


def test_after_a_takedown_and_vacuum_the_bytes_are_gone_when_no_pin_holds_them(
    place: Place,
) -> None:
    place.commit(flat(corpus(8).values()), SMALL_COMMITS)
    before = place.rows()
    place.open().pin("paper")
    pinned_version = place.open().version
    place.commit(unit_records(work_unit("late"), 1))
    tokens_of_taken = {
        tuple(row["spatial_tokens"]) for row in before if row["video_uri"] == TAKEN  # type: ignore[arg-type]
    }  # fmt: skip
    takedown = {"videos": [TAKEN], "reason": "request 17"}
    summary = maintain(place, takedown=takedown)
    assert summary.taken_down == Removal(1, 1, len(tokens_of_taken))
    assert summary.num_held_by_pin == {"paper": 1}
    assert "pin paper: version" in "\n".join(summary.lines())
    assert place.rows(pin="paper") == before
    assert work_unit("001").video_id in ids_in(place)

    summary = maintain(place, unpin=["paper"])
    assert (summary.taken_down, summary.pins) == (Removal(), ())
    assert work_unit("001").video_id not in ids_in(place)
    kept = {tuple(row["spatial_tokens"]) for row in place.stored_rows()}  # type: ignore[arg-type]
    assert not kept & tokens_of_taken
    needle = work_unit("001").video_id.encode()
    assert not any(needle in content for content in place.data_files().values())
    assert place.data_files().keys() == place.open().clips.file_sizes().keys()
    late = [row for row in place.rows() if row["video_uri"] == "file:///videos/late"]
    assert [row for row in place.rows() if row not in late] == [
        row for row in before if row["video_uri"] != TAKEN
    ]
    with pytest.raises(DatasetError, match="was vacuumed"):
        place.rows(pinned_version)
    with pytest.raises(DatasetError, match="there is no pin 'paper'"):
        place.rows(pin="paper")


def test_versions_within_the_retention_and_pinned_ones_are_readable_others_not(
    local: Place,
) -> None:
    for version in ("1", "2", "3"):
        local.commit(unit_records(work_unit("a", version), 2))
    rows = {version: local.rows(version) for version in (1, 2, 3)}
    local.open(1).pin("first", days=1)
    assert maintain(local, clean_up={"retention_h": 1}).tables["clips"].deleted.expired == {}
    summary = maintain(local)
    assert len(summary.tables["clips"].deleted.expired) == 1
    assert len(summary.tables["clips"].deleted.pinned) == 1
    assert (local.rows(1), local.rows(3)) == (rows[1], rows[3])
    assert local.open().clips._table.history(1)[0]["sweettok.reason"] == VACUUM_REASON
    with pytest.raises(DatasetError, match=r"version 2 .* was vacuumed"):
        local.rows(2)
    with pytest.raises(DatasetError, match="version 2 cannot be pinned"):
        local.open().pin("second", version=2)
    assert [pin.name for pin in local.open().pins()] == ["first"]


def test_a_pin_has_a_name_a_version_and_an_end(local: Place) -> None:
    for version in ("1", "2"):
        local.commit(unit_records(work_unit("a", version), 2))
    dataset = local.open(1)
    pin = dataset.pin("train", days=3)
    assert pin.version == dataset.version == 1
    assert timedelta(days=2.99) < pin.expires_at - datetime.now(UTC) <= timedelta(days=3)  # type: ignore[operator]
    assert local.open().pins() == [pin]
    assert local.rows(pin="train") == local.rows(1)
    assert dataset.pin("train", days=9).expires_at > pin.expires_at  # type: ignore[operator]
    with pytest.raises(DatasetError, match="holds version 1; unpin it first"):
        local.open().pin("train")
    with pytest.raises(DatasetError, match="cannot be a file name"):
        dataset.pin("../train")
    with pytest.raises(DatasetError, match="either a version or the pin"):
        local.open(1, pin="train")
    dataset.unpin("train")
    dataset.pin("train", days=1e-7)
    time.sleep(0.02)
    summary = maintain(local)
    assert (summary.pins, local.open().pins()) == ((), [])
    assert len(local.data_files()) == 1
    assert not local.open().unpin("train")


def test_nothing_is_deleted_while_a_pin_cannot_be_read(local: Place) -> None:
    for version in ("1", "2"):
        local.commit(unit_records(work_unit("a", version), 2))
    local.open(1).pin("train")
    Path(local.uri, "_pins", "train.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"_pins/train\.json is no pin"):
        maintain(local)
    assert len(local.data_files()) == 2


def test_pinned_versions_outlive_the_librarys_own_log_clean_up(local: Place) -> None:
    local.commit(unit_records(work_unit("a"), 2))
    local.open().pin("train")
    rows = local.rows()
    local.commit(unit_records(work_unit("a", "2"), 2))
    make_old(local)
    maintain(local)
    DeltaTable(local.uri).cleanup_metadata()
    assert local.rows(pin="train") == rows


def test_a_table_from_before_gets_the_properties_that_pins_need(local: Place) -> None:
    local.commit(unit_records(work_unit("a"), 1))
    table = DeltaTable(local.uri)
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 1 days"})
    maintain(local)
    configuration = local.open().clips.configuration
    assert configuration["delta.logRetentionDuration"] == "interval 3650 days"
    version = local.open().version
    maintain(local)
    assert local.open().version == version


# --- deletions by name, and what the summary says of names --------------------------------------


def test_what_is_deleted_by_name_comes_back_with_the_next_run_that_lists_it(local: Place) -> None:
    local.commit(flat(corpus(8).values()))
    before, version = local.rows(), local.open().version
    num_quarantined = local.open().quarantine().num_rows
    quarantined_uri = "file:///videos/003"
    names = [TAKEN, quarantined_uri, "/videos/typo.mp4"]
    expected = Removal(
        num_videos=2,
        num_clips=sum(row["video_uri"] == TAKEN for row in before),
        unknown=("/videos/typo.mp4",),
    )
    assert maintain(local, delete={"videos": names}, dry_run=True).deleted == expected
    assert local.open().version == version
    summary = maintain(local, delete={"videos": names}, clean_up={"enabled": False})
    assert summary.deleted == expected
    assert summary.lines()[:2] == [
        f"deleted: 2 videos, {expected.num_clips} clips",
        "WARNING: /videos/typo.mp4: not in this dataset; nothing to delete",
    ]
    finished = local.open().finished_units().to_table()["video_id"].to_pylist()
    assert not {work_unit("001").video_id, work_unit("003").video_id} & set(finished)
    local.commit(flat(corpus(8).values()))
    assert local.rows() == before
    assert local.open().quarantine().num_rows == num_quarantined


def test_a_takedown_says_what_it_deleted_and_which_names_it_does_not_know(local: Place) -> None:
    local.commit([*unit_records(work_unit("a"), 1), *unit_records(work_unit("b"), 3)])
    known, typo = work_unit("a").uri, "/videos/typo.mp4"
    takedown = {"videos": [known, typo], "reason": "request 17"}
    lines = [
        "takedowns: 2 videos newly kept out; deleted: 1 video, 1 clip",
        f"WARNING: {typo}: not in this dataset; kept out from now on. Is the name right?",
    ]
    assert maintain(local, takedown=takedown, dry_run=True).lines()[1:3] == lines
    assert maintain(local, takedown=takedown).lines()[:2] == lines
    again = maintain(local, takedown=takedown).lines()
    assert again[:2] == ["takedowns: 0 videos newly kept out; deleted: 0 videos, 0 clips", lines[1]]
    lifted = maintain(local, takedown={"lift": [typo, work_unit("b").uri]}).lines()
    assert lifted[:2] == [
        "takedowns: 1 video may come in again",
        f"WARNING: {work_unit('b').uri}: not taken down; nothing to lift",
    ]


def test_an_unknown_pin_is_an_error_that_names_the_known_ones(local: Place) -> None:
    local.commit(unit_records(work_unit("a"), 1))
    with pytest.raises(DatasetError, match="no pin 'nope' to remove; it has no pins"):
        maintain(local, unpin=["nope"])
    local.open().pin("june")
    local.open().pin("may")
    before = local.files()
    for dry_run in (True, False):
        with pytest.raises(DatasetError, match="no pin 'nope' to remove; its pins are june, may"):
            maintain(local, unpin=["may", "nope"], dry_run=dry_run)
    assert local.files() == before


def test_one_of_a_thing_is_called_by_its_singular(local: Place) -> None:
    local.commit(unit_records(work_unit("a"), 1))
    local.commit(unit_records(work_unit("b"), 1))
    text = "\n".join(maintain(local).lines())
    assert "clips: 2 small files" in text
    assert "clips: 1 file (" in text
    assert "quarantine: 0 files (" in text
    assert not re.search(r"\b1 \w+s\b", text)


# --- files of crashed runs --------------------------------------------------------------------


def abandoned_run(place: Place) -> Committer:
    """A run that has written data files and not committed them."""
    dataset = TokenDataset.create_or_open(place.uri, sample_lineage(), storage=place.storage)
    committer = Committer(dataset, "crashed", CommitConfig(target_file_bytes=1))
    for record in flat(unit_records(work_unit(name), 2) for name in ("x", "y")):
        committer.add(record)
    return committer


def test_files_of_crashed_runs_go_once_they_are_old_enough(place: Place) -> None:
    place.commit(unit_records(work_unit("a"), 2))
    abandoned_run(place)
    table = place.open().clips

    def found(grace: timedelta) -> int:
        return len(unneeded_files(table, retention_h=0, grace=grace, keep_versions=[]).abandoned)

    assert (found(timedelta(hours=2)), found(timedelta(seconds=-60))) == (0, 2)


def test_a_clean_up_leaves_what_a_running_job_is_about_to_commit(local: Place) -> None:
    local.commit(unit_records(work_unit("a"), 2))
    running = abandoned_run(local)
    summary = maintain(local)
    assert summary.tables["clips"].deleted.abandoned == {}
    assert running.close().num_videos == 2
    assert len(local.rows()) == 6


def test_only_files_that_are_ours_and_old_count_as_abandoned(local: Place) -> None:
    local.commit(unit_records(work_unit("a"), 2))
    abandoned_run(local)
    for name in ("notes.txt", "part-x.parquet#1", "_delta_log/00000000000000000009.json#2"):
        Path(local.uri, name).write_bytes(b"12345")
    make_old(local)
    Path(local.uri, "part-y.parquet#1").write_bytes(b"young")
    before = local.rows()
    summary = maintain(local)
    deleted = summary.tables["clips"].deleted.abandoned
    assert len(deleted) == 4
    assert not any(Path(local.uri, path).exists() for path in deleted)
    assert Path(local.uri, "notes.txt").exists()
    assert Path(local.uri, "part-y.parquet#1").exists()
    assert local.rows() == before


def test_a_file_that_waited_too_long_is_written_anew_or_the_run_stops(local: Place) -> None:
    local.commit(unit_records(work_unit("a"), 2))
    for clean_up_came in (False, True):
        running = abandoned_run(local)
        for written in running._written:
            object.__setattr__(written.file, "written_s", time.monotonic() - MAX_WAIT_S)
        old = {written.file.path for written in running._written}
        if clean_up_came:
            make_old(local)
            assert maintain(local).tables["clips"].deleted.abandoned.keys() >= old
            with pytest.raises(DatasetError, match=r"part-\w+"):
                running.close()
        else:
            running.close()
            assert not old & local.open().clips.file_sizes().keys()
            local.open().delete_videos(
                pa.array([work_unit(name).video_id for name in "xy"]), run_id="r", reason="again"
            )
    assert {row["video_uri"] for row in local.rows()} == {"file:///videos/a"}


# --- the job ----------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_happen_and_changes_nothing(local: Place) -> None:
    local.commit(flat(corpus(8).values()), SMALL_COMMITS)
    local.open().pin("x")
    before = local.files()
    summary = maintain(
        local, dry_run=True, takedown={"videos": [TAKEN], "reason": "x"}, unpin=["x"]
    )
    assert local.files() == before
    num_clips = sum(row["video_uri"] == TAKEN for row in local.rows())
    assert summary.taken_down == Removal(1, 1, num_clips)
    assert summary.tables["clips"].compacted.num_files_before == len(local.data_files())
    assert summary.lines()[0].startswith("dry run")


def test_the_summary_counts_files_and_bytes(local: Place) -> None:
    local.commit(flat(corpus(8).values()), SMALL_COMMITS)
    sizes = local.open().clips.file_sizes()
    summary = maintain(local)
    clips = summary.tables["clips"]
    assert clips.compacted.num_bytes_before == sum(sizes.values())
    assert clips.deleted.expired == sizes
    assert {path: len(content) for path, content in local.data_files().items()} == (
        local.open().clips.file_sizes()
    )
    (name,) = [name for name in local.files() if name.endswith("summary.json")]
    assert name.startswith("_runs/maintain-")
    assert summary.tables["quarantine"].compacted.num_files_before == 2


def test_a_checkpoint_is_written_once_per_version(local: Place) -> None:
    local.commit(unit_records(work_unit("a"), 1))
    for _ in range(2):
        maintain(local)
        checkpoints = [name for name in local.files() if "checkpoint.parquet" in name]
        assert sorted(checkpoints) == [
            "_delta_log/00000000000000000001.checkpoint.parquet",
            "_quarantine/_delta_log/00000000000000000000.checkpoint.parquet",
        ]
    assert VideoTable(local.uri).num_rows() == 1


def test_unused_copies_of_tokenizers_are_removed(local: Place, tmp_path: Path) -> None:
    source, cache = tmp_path / "tokenizer", tmp_path / "cache"
    source.mkdir()
    (source / "words.json").write_text("[]")
    local.commit(unit_records(work_unit("a"), 1))
    local.open().store_tokenizer(source)
    copy = local.open().tokenizer_files(cache)
    (cache / "something else").mkdir()
    (cache / ".partial-x").mkdir()
    for path in cache.iterdir():
        os.utime(path, (time.time() - LONG_AGO_S,) * 2)
    settings = {"tokenizer_cache": {"directory": str(cache), "unused_days": 7}}
    assert local.open().tokenizer_files(cache) == copy  # used just now
    assert maintain(local, **settings).cached_copies == {str(cache / ".partial-x"): 0}
    os.utime(copy, (time.time() - LONG_AGO_S,) * 2)
    assert maintain(local, **settings).cached_copies == {str(copy): 2}
    assert [path.name for path in cache.iterdir()] == ["something else"]
    assert local.open().tokenizer_files(cache) == copy


def test_impossible_wishes_are_refused(local: Place) -> None:
    for settings, message in (
        ({"takedown": {"videos": ["a"]}}, "needs a reason"),
        ({"clean_up": {"abandoned_after_h": 1}}, "abandoned_after_h"),
        ({"clean_up": {"retention_h": -1}}, "retention_h"),
        ({"pin": {"days": 1}}, "name"),
    ):
        with pytest.raises(ConfigError, match=message):
            maintain(local, **settings)


@pytest.mark.jobs
def test_the_job_compacts_pins_and_reports(local: Place) -> None:
    local.commit(flat(corpus(8).values()), SMALL_COMMITS)
    rows = local.rows()
    arguments = ["--config", "configs/maintain_dataset.yaml", "--set", f"dataset.uri={local.uri}"]
    done = run_plain("maintain_dataset", *arguments, "--set", "pin.name=may", "--set", "pin.days=9")
    assert done.returncode == 0, done.stderr
    assert "clips: 6 small files" in done.stdout
    assert "pin may: version 5 until" in done.stdout
    assert local.rows() == local.rows(pin="may") == rows
    config = next(
        content for name, content in local.files().items() if name.endswith("config.yaml")
    )
    assert yaml.safe_load(config)["pin"]["name"] == "may"
    missing = run_plain("maintain_dataset", *arguments, "--set", "dataset.uri=/nowhere")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
