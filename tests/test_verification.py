"""Verification: a clean dataset has no finding, and every planted fault is found where it is."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError
from pipeline.exports.job import ExportConfig, export_tokens
from pipeline.maintenance import MaintainConfig, maintain_dataset
from pipeline.reading import TokenReader
from pipeline.verification import VerifyConfig
from sweettok.errors import ConfigError
from sweettok.strict_config import load_config
from tests.job_runs import REPOSITORY, run_plain, write_config
from tests.planted_datasets import (
    Rows,
    data_files,
    found_by,
    make_dataset,
    only_finding,
    rewrite_log,
    rewrite_rows,
    save_lively_tokenizer,
    tokenize_missing,
    verified,
    write_summary,
)
from tests.token_samples import commit_all, unit_records, work_unit

NUM_FLIPPED_BYTES = 24


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: str) -> Path:
    """A dataset without a fault; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("clean")
    tokenizer = save_lively_tokenizer(tokenizer_directory, folder / "tokenizer")
    return make_dataset(folder, tokenizer)


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(clean, tmp_path / "tokens")


def test_a_clean_dataset_has_no_finding(clean: Path, tmp_path: Path) -> None:
    report = verified(clean, sample_clips=4, output=str(tmp_path / "report.json"),
                      scratch=str(tmp_path))  # fmt: skip
    assert report.num_findings == 0, report.text()
    checked = {check.name: check.num_checked for check in report.checks}
    assert checked == {
        "lineage": 1, "data files": 5, "versions": 3, "rows": 9, "videos": 3, "quarantine": 3,
        "runs": 1, "samples": 4,
    }  # fmt: skip
    assert not any(check.notes for check in report.checks)
    assert "no finding" in report.text().splitlines()[-1]
    assert json.loads((tmp_path / "report.json").read_text())["num_findings"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_flipped_byte_is_found_wherever_it_is(root: Path) -> None:
    random = np.random.default_rng(0)
    path = data_files(root)[1]
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    places = [0, 4, footer, footer + 10, len(content) - 5, len(content) - 1]
    places += random.integers(0, len(content), NUM_FLIPPED_BYTES - len(places)).tolist()
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        assert path.name in only_finding(verified(root, num_older_versions=0), "data files")
    path.write_bytes(content)
    assert verified(root).num_findings == 0


def test_flipped_page_data_is_found_in_a_file_without_a_hash_in_its_name(root: Path) -> None:
    table = TokenDataset.open(root).clips
    path = min(table.file_sizes())
    renamed = f"part-{'0' * 32}.zstd.parquet"
    log = next(file for file in (root / "_delta_log").iterdir() if path in file.read_text())
    log.write_text(log.read_text().replace(path, renamed))
    (root / path).rename(root / renamed)
    assert verified(root).num_findings == 0
    content = (root / renamed).read_bytes()
    chunks = pq.read_metadata(root / renamed).row_group(0)
    for column in range(chunks.num_columns):
        chunk = chunks.column(column)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        damaged = bytearray(content)
        damaged[start + chunk.total_compressed_size - 1] ^= 1  # the last byte is page data
        (root / renamed).write_bytes(damaged)
        assert renamed in only_finding(verified(root, num_older_versions=0), "data files")


def test_a_deleted_file_is_found_and_the_remedy_helps(root: Path) -> None:
    data_files(root)[0].unlink()
    report = verified(root, num_older_versions=0)
    assert "is missing, although the log names it" in only_finding(report, "data files")
    assert any("gaps" in note for check in report.checks for note in check.notes)
    DeltaTable(str(root)).repair()
    assert found_by(verified(root, num_older_versions=0)) == {}
    assert TokenDataset.open(root).num_clips() == 6


def test_a_truncated_file_is_found(root: Path) -> None:
    path = data_files(root)[2]
    content = path.read_bytes()
    for length in (0, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        finding = only_finding(verified(root, num_older_versions=0), "data files")
        assert path.name in finding
        assert f"has {length:,} bytes, the log says {len(content):,}" in finding


def test_a_file_of_the_quarantine_is_checked_like_any_other(root: Path) -> None:
    path = min((root / "_quarantine").glob("part-*.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "_quarantine/part-" in only_finding(verified(root), "data files")


def test_a_duplicated_row_is_found(root: Path) -> None:
    rewrite_rows(TokenDataset.open(root).clips, lambda rows: [*rows, rows[1]])
    report = verified(root)
    assert found_by(report) == {"videos": 1, "runs": 1}
    (finding,) = report.checks[4].findings
    assert finding.where.endswith(".parquet row 3")
    assert "is also in part-" in finding.what
    assert finding.what.endswith(".parquet row 1")
    rewrite_rows(TokenDataset.open(root).clips, lambda rows: [*rows, *rows])
    assert found_by(verified(root))["videos"] >= 3


def test_a_row_copied_into_another_file_is_found(root: Path) -> None:
    table = TokenDataset.open(root).clips
    first, second = (table.read(path) for path in sorted(table.file_sizes())[:2])
    table.swap([], [table.write(first.slice(0, 1)), table.write(second.slice(2, 1))], {})
    report = verified(root)
    assert found_by(report) == {"videos": 2, "runs": 1}, report.text()


def edited(**values: Any) -> Callable[[Rows], Rows]:
    """An edit of the last row of a file."""

    def edit(rows: Rows) -> Rows:
        rows[-1] |= {
            name: value(rows[-1][name]) if callable(value) else value
            for name, value in values.items()
        }
        return rows

    return edit


def changed(place: int, value: int) -> Callable[[list[int]], list[int]]:
    """A change of one id in a list of tokens."""
    return lambda ids: [*ids[:place], value, *ids[place + 1 :]]


@pytest.mark.parametrize(
    ("edit", "check", "what"),
    [
        (edited(spatial_tokens=changed(3, 96)), "rows", "holds the id 96, the codebook's are 0 to"),
        (edited(spatial_tokens=changed(0, -1)), "rows", "spatial_tokens holds the id -1"),
        (edited(temporal_tokens=changed(0, 64)), "rows", "temporal_tokens holds the id 64"),
        (edited(temporal_tokens=lambda ids: ids[1:]), "rows", "the lineage asks for"),
        (edited(spatial_tokens=None), "rows", "spatial_tokens is null"),
        (edited(clip_id="0" * 32), "rows", "clip_id is 00000000000000000000000000000000; its"),
        (edited(clip_id="not an id"), "rows", "clip_id is 'not an id', not 32 hexadecimal"),
        (edited(start_s=1e9), "rows", "is no part of time"),
        (edited(height_px=31), "rows", "height_px is 31, the lineage says 32"),
        (edited(num_padded_frames=2), "rows", "with 2 padded frames"),
        (edited(psnr_db=float("nan")), "rows", "psnr_db is not a number"),
        (lambda rows: [rows[0], rows[2]], "videos", "not numbered 0 to 1: missing: 1"),
    ],
)  # fmt: skip
def test_an_altered_row_is_found(
    root: Path, edit: Callable[[Rows], Rows], check: str, what: str
) -> None:
    rewrite_rows(TokenDataset.open(root).clips, edit)
    finding = only_finding(verified(root), check)
    assert what in finding
    assert ".parquet row 2" in finding or check == "videos"


def copied(rows: Rows) -> Rows:
    """An edit that adds a row once more."""
    return [*rows, rows[1]]


@pytest.mark.parametrize(
    ("edit", "table"),
    [
        (copied, "clips"),
        (edited(spatial_tokens=changed(3, 96)), "clips"),
        (edited(temporal_tokens=lambda ids: [(ids[0] + 1) % 64, *ids[1:]]), "clips"),
        (edited(video_fingerprint="f" * 32), "clips"),
        (edited(video_uri="file:///elsewhere"), "clips"),
        (edited(video_id="a" * 32), "clips"),
        (lambda rows: [rows[0], rows[2]], "clips"),
        (edited(reason="bad mood"), "quarantined"),
        (lambda rows: [*rows, rows[0]], "quarantined"),
    ],
)  # fmt: skip
def test_the_advice_on_a_row_helps_when_it_is_followed_to_the_letter(
    clean: Path, root: Path, edit: Callable[[Rows], Rows], table: str
) -> None:
    rewrite_rows(getattr(TokenDataset.open(root), table), edit)
    report = verified(root, sample_clips=9)
    named = [check for check in report.checks if check.name != "runs"]
    advice = {finding.remedy for check in named for finding in check.findings}
    assert advice
    for remedy in sorted(advice):
        command = remedy.partition("delete it with ")[2].partition(", then run")[0]
        job, *arguments = shlex.split(command.removeprefix("python "))
        assert (job, arguments[0]) == ("jobs/maintain_dataset.py", "--config")
        overrides = [text for text in arguments[2:] if text != "--set"]
        maintain_dataset(load_config(MaintainConfig, REPOSITORY / arguments[1], overrides))
    tokenizer = str(clean.parent / "tokenizer")
    tokenize_missing(clean.parent / "videos", tokenizer, root, "second")
    mended = verified(root, sample_clips=9)
    assert found_by(mended) == {}, mended.text()
    assert TokenDataset.open(root).num_clips() == 9
    assert len(TokenDataset.open(root).quarantine()) == 3


def test_a_row_that_no_deletion_can_name_is_sent_back_to_an_older_version(root: Path) -> None:
    dataset = TokenDataset.open(root)
    rewrite_rows(dataset.clips, edited(video_id="not an id", video_uri=None))
    (remedy,) = {
        finding.remedy
        for check in verified(root).checks
        if check.name == "rows"
        for finding in check.findings
    }
    assert "restore(version)" in remedy
    DeltaTable(str(root)).restore(dataset.version - 1)
    assert found_by(verified(root)) == {}


def test_a_wrong_fingerprint_is_found_in_its_row_and_in_its_video(root: Path) -> None:
    rewrite_rows(TokenDataset.open(root).clips, edited(video_fingerprint="f" * 32))
    report = verified(root)
    assert found_by(report) == {"rows": 1, "videos": 1}
    assert "hold different fingerprints of it" in report.text()


def test_another_uri_is_found_and_what_the_log_says_wrongly(root: Path) -> None:
    rewrite_rows(TokenDataset.open(root).clips, edited(video_uri="file:///elsewhere"))
    assert "that of file:///elsewhere is" in only_finding(verified(root), "rows")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda log: log.update(numRecords=4), "holds 3 rows, the log says 4"),
        (lambda log: log["maxValues"].update(clip_index=1), "clip_index from 0 to 2, the log says"),
        (lambda log: log["minValues"].update(video_id="g"), "a reader with a filter may miss rows"),
    ],
)
def test_what_the_log_says_wrongly_is_found(
    root: Path, change: Callable[[dict[str, Any]], None], what: str
) -> None:
    rewrite_log(TokenDataset.open(root).clips, change)
    assert what in only_finding(verified(root), "data files")


def test_an_altered_tokenizer_is_found(root: Path) -> None:
    (weights,) = (root / "_tokenizer").glob("*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "model.safetensors is missing or was altered" in only_finding(verified(root), "lineage")
    weights.unlink()
    report = verified(root, sample_clips=4)
    assert "model.safetensors is missing or was altered" in only_finding(report, "lineage")
    assert any("not intact" in note for check in report.checks for note in check.notes)


def test_another_tokenizer_in_its_place_is_found(
    root: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    (folder,) = (root / "_tokenizer").iterdir()
    shutil.rmtree(folder)
    TokenDataset.open(root).store_tokenizer(tokenizer_directory)
    assert "weights_hash is" in only_finding(verified(root), "lineage")


def test_a_broken_lineage_is_one_clear_error(root: Path) -> None:
    log = root / "_delta_log" / f"{0:020}.json"
    log.write_text(log.read_text().replace("weights_hash", "weight_hash"))
    with pytest.raises(DatasetError, match="lineage cannot be read"):
        verified(root)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (edited(reason="bad mood"), "its reason 'bad mood' is none of"),
        (edited(video_uri="file:///elsewhere"), "that of the URI is"),
        (edited(message=None), "message is null"),
        (lambda rows: [*rows, rows[0]], "the input has more than one row"),
    ],
)
def test_a_fault_of_the_quarantine_is_found(
    root: Path, edit: Callable[[Rows], Rows], what: str
) -> None:
    rewrite_rows(TokenDataset.open(root).quarantined, edit)
    assert what in only_finding(verified(root), "quarantine")


@pytest.mark.parametrize(
    ("reason", "findings"), [("truncated", {}), ("taken_down", {"quarantine": 1})]
)
def test_an_input_in_both_tables(root: Path, reason: str, findings: dict[str, int]) -> None:
    """A stopped run may leave one, which readers resolve; a takedown must not."""
    dataset = TokenDataset.open(root)
    clip = dataset.rows(["video_id", "video_uri", "video_fingerprint"]).read_all().to_pylist()[0]
    rewrite_rows(dataset.quarantined, lambda rows: [*rows, rows[0] | clip | {"reason": reason}])
    report = verified(root)
    assert found_by(report) == findings
    notes = [note for check in report.checks for note in check.notes]
    assert [("1 input with tokens and a row" in note) for note in notes] == [True] * (not findings)
    assert found_by(verified(root, version=dataset.version)) == {}


def test_a_summary_that_does_not_add_up_is_found(root: Path) -> None:
    dataset = TokenDataset.open(root)
    numbers = {"num_listed": 6, "num_tokenized": 3, "num_quarantined": 3, "num_unchanged": 0}
    write_summary(dataset, **numbers, num_clips=8)
    assert "9 rows bear its name, it says 8 clips" in only_finding(verified(root), "runs")
    write_summary(dataset, **numbers | {"num_listed": 7}, num_clips=9)
    assert "listed 7 is not tokenized 3 + quarantined 3" in only_finding(verified(root), "runs")
    write_summary(dataset, **numbers, num_clips=9, reasons={"empty": 4})
    assert "4 reasons for 3 quarantined" in only_finding(verified(root), "runs")


def test_older_versions_are_counted_and_may_be_vacuumed(root: Path) -> None:
    dataset = TokenDataset.open(root)
    path = min(dataset.clips.file_sizes())
    dataset.clips.swap(dataset.clips.read(path)["video_id"].to_pylist(), [], {})
    assert verified(root).num_findings == 0
    (root / path).rename(root / "kept")
    finding = only_finding(verified(root), "versions")
    assert path in finding
    assert "no vacuum ever removed a file" in finding
    assert verified(root, num_older_versions=0).num_findings == 0
    (root / "kept").rename(root / path)
    DeltaTable(str(root)).vacuum(0, dry_run=False, enforce_retention_duration=False)
    report = verified(root)
    assert report.num_findings == 0, report.text()
    assert any("cannot be read any more" in note for check in report.checks for note in check.notes)


def test_a_pinned_version_must_stay_whole(root: Path) -> None:
    dataset = TokenDataset.open(root)
    pin = dataset.pin("paper")
    path = min(dataset.clips.file_sizes())
    dataset.clips.refresh()
    dataset.clips.swap(dataset.clips.read(path)["video_id"].to_pylist(), [], {})
    assert found_by(verified(root, num_older_versions=0)) == {}
    assert verified(root, pin="paper").version == pin.version
    DeltaTable(str(root)).vacuum(0, dry_run=False, enforce_retention_duration=False)
    finding = only_finding(verified(root, num_older_versions=0), "versions")
    assert path in finding
    assert "pin paper (version " in finding


def test_a_wrong_token_within_the_codebook_is_found_by_making_the_clip_again(root: Path) -> None:
    rewrite_rows(
        TokenDataset.open(root).clips,
        edited(temporal_tokens=lambda ids: [(ids[0] + 1) % 64, *ids[1:]]),
    )
    assert verified(root).num_findings == 0
    assert "1 of its" in only_finding(verified(root, sample_clips=9), "samples")
    assert verified(root, sample_clips=9, max_id_mismatch=0.5).num_findings == 0


def test_a_clip_that_decodes_worse_than_recorded_is_found(root: Path) -> None:
    rewrite_rows(TokenDataset.open(root).clips, edited(psnr_db=lambda found: found + 1.0))
    assert "recorded are" in only_finding(verified(root, sample_clips=9), "samples")
    assert verified(root, sample_clips=9, psnr_tolerance_db=1.1).num_findings == 0


def test_videos_that_are_gone_or_changed_are_named_and_others_take_their_place(
    clean: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    root = make_dataset(tmp_path, tokenizer_directory)
    (tmp_path / "videos" / "a.mp4").unlink()
    (tmp_path / "videos" / "b b.mp4").write_bytes(b"changed")
    report = verified(root, sample_clips=9)  # all that there are
    samples = report.checks[-1]
    assert (samples.num_checked, report.num_findings) == (3, 0)
    assert sorted(note.split()[0].rsplit("/", 1)[1] for note in samples.notes) == [
        "a.mp4", "b%20b.mp4",
    ]  # fmt: skip


def test_a_version_that_does_not_exist_is_one_clear_error(root: Path) -> None:
    dataset = TokenDataset.open(root)
    message = f"{root}: has no version 99; the newest is {dataset.version}"
    values = {"dataset": {"uri": str(root)}, "version": 99, "format": "webdataset"}
    export = ExportConfig.from_mapping(values | {"output": str(root.parent / "exported")})
    opened: list[Callable[[], object]] = [
        lambda: verified(root, version=99),
        lambda: dataset.pin("x", version=99),
        lambda: TokenReader.open(root, 99),
        lambda: export_tokens(export),
    ]
    for attempt in opened:
        with pytest.raises(DatasetError) as caught:
            attempt()
        assert str(caught.value) == message
    assert dataset.pins() == []


def test_older_tables_and_pinned_versions_are_verified(tmp_path: Path) -> None:
    """Rows that have no tokenizer beside them: the only finding is that."""
    for state in ("1", "2"):
        commit_all(tmp_path / "tokens", unit_records(work_unit("a", state, label=state), 3))
    report = verified(tmp_path / "tokens", version=2)
    assert "is not stored completely" in only_finding(report, "lineage")
    assert (report.version, report.checks[3].num_checked) == (2, 3)


@pytest.mark.jobs
def test_the_job_on_s3(endpoint_url: str, root: Path, tmp_path: Path) -> None:
    bucket = fsspec.filesystem("s3", client_kwargs={"endpoint_url": endpoint_url})
    bucket.put(str(root), "corpus/verified", recursive=True)
    storage = {"endpoint_url": endpoint_url, "region": "us-east-1"}
    values = {"dataset": {"uri": "s3://corpus/verified", "storage": storage}, "sample_clips": 2}
    config = write_config(tmp_path / "verify.yaml", values)
    good = run_plain("verify_dataset", "--config", str(config))
    assert good.returncode == 0, good.stdout + good.stderr
    assert "s3://corpus/verified version 3: no finding" in good.stdout
    name = data_files(root)[0].name
    content = bytearray(bucket.cat(f"corpus/verified/{name}"))
    content[100] ^= 1
    bucket.pipe(f"corpus/verified/{name}", bytes(content))
    output = tmp_path / "report.json"
    bad = run_plain("verify_dataset", "--config", str(config), "--set", f"output={output}")
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr
    assert bad.stderr.splitlines()[-1].endswith("1 finding, see above")
    assert f"s3://corpus/verified/{name}" in bad.stdout
    report = json.loads(output.read_text())
    assert report["num_findings"] == 1
    assert "its bytes were altered" in report["checks"][1]["findings"][0]["what"]


def test_the_shipped_settings_are_read_strictly() -> None:
    config = load_config(VerifyConfig, REPOSITORY / "configs" / "verify_dataset.yaml")
    assert config.samples.num_clips == config.sample_clips == 16
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(VerifyConfig, REPOSITORY / "configs" / "verify_dataset.yaml", ["sample_clip=3"])
