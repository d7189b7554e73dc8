"""The books of a dataset: its quarantine, and the summaries that its runs left."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.fs as pa_fs

from pipeline.dataset import TokenDataset
from pipeline.errors import QuarantineReason
from pipeline.records import stable_id
from pipeline.verification.findings import CheckResult
from pipeline.verification.remedies import make_again
from pipeline.wording import counted

_LIFT = (
    "lift the takedown and repeat it with jobs/maintain_dataset.py: takedown.lift, and then "
    "takedown.videos and takedown.reason"
)
_TAKE_DOWN_AGAIN = "repeat the takedown with jobs/maintain_dataset.py"
_KNOWN_REASONS = frozenset(reason.value for reason in QuarantineReason)


class QuarantineCheck:
    """Checks the rows of the quarantine table, and then the videos that also have tokens.

    Args:
        dataset_uri: Root of the dataset, for the advice.
        uri: Root of the quarantine table.
    """

    def __init__(self, dataset_uri: str, uri: str) -> None:
        self._dataset_uri = dataset_uri
        self.result = CheckResult("quarantine", "input")
        self._uri = uri
        self._reasons: dict[str, str] = {}
        self._uris: dict[str, str] = {}

    @property
    def video_ids(self) -> frozenset[str]:
        """The inputs that have a row."""
        return frozenset(self._reasons)

    def add(self, rows: pa.RecordBatch) -> None:
        """Takes some rows of the table."""
        for row in rows.to_pylist():
            self.result.num_checked += 1
            for fault in self._faults(row):
                where = f"{self._uri} row of {row['video_uri']}"
                self.result.add(where, fault, self._remedy(row))
            if row["video_id"] is not None:
                self._reasons[row["video_id"]] = row["reason"]
                self._uris[row["video_id"]] = row["video_uri"]

    def check_overlap(self, tokenized: set[str]) -> None:
        """Takes the inputs among `video_ids` that have clips as well.

        A run that was stopped between its two commits leaves such rows; tokens win, and the next
        commit takes the row away. For an input that was taken down it is the other way round.
        """
        left_over = 0
        for video_id in sorted(tokenized):
            if self._reasons[video_id] == QuarantineReason.TAKEN_DOWN:
                self.result.add(
                    self._uris[video_id], "was taken down and still has clips", _TAKE_DOWN_AGAIN
                )
            else:
                left_over += 1
        if left_over:
            self.result.notes.append(
                f"{counted(left_over, 'input')} with tokens and a row that a stopped run left; "
                "readers see the tokens, and the next run takes the rows away"
            )

    def _remedy(self, row: Mapping[str, Any]) -> str:
        if row["reason"] == QuarantineReason.TAKEN_DOWN:
            return _LIFT
        return make_again(self._dataset_uri, [row["video_id"]])

    def _faults(self, row: Mapping[str, Any]) -> Iterator[str]:
        missing = sorted(name for name, value in row.items() if value is None)
        if missing:
            yield f"{missing[0]} is null"
            return
        if row["reason"] not in _KNOWN_REASONS:
            yield f"its reason {row['reason']!r} is none of {', '.join(sorted(_KNOWN_REASONS))}"
        expected = stable_id("video", row["video_uri"])
        if row["video_id"] != expected:
            yield f"video_id is {row['video_id']}, that of the URI is {expected}"
        if row["video_id"] in self._reasons:
            yield "the input has more than one row"


def check_runs(dataset: TokenDataset, num_rows_by_run: Mapping[str, int]) -> CheckResult:
    """Checks that the summary of each run adds up and covers the rows that bear its name.

    Args:
        dataset: The dataset.
        num_rows_by_run: Clip rows of the version that was read, by the run that wrote them.
    """
    result = CheckResult("runs", "run")
    summaries = {run_id: _summary(dataset, run_id, result) for run_id in _run_ids(dataset)}
    for run_id, summary in summaries.items():
        result.num_checked += 1
        for fault in _summary_faults(summary or {}, num_rows_by_run.get(run_id, 0)):
            result.add(
                f"{dataset.uri}/_runs/{run_id}/summary.json",
                fault,
                "compare it with the run's log; the rows themselves are checked apart",
            )
    stopped = sum(summary is None for summary in summaries.values())
    if stopped:
        runs = counted(stopped, "run")
        result.notes.append(f"{runs} without a summary: stopped, or still at work")
    unknown = num_rows_by_run.keys() - summaries.keys()
    if unknown:
        runs = counted(len(unknown), "run")
        result.notes.append(f"{runs} that wrote rows without leaving files under _runs")
    return result


def _run_ids(dataset: TokenDataset) -> list[str]:
    folder = pa_fs.FileSelector("_runs", allow_not_found=True)
    found = dataset.clips.filesystem.get_file_info(folder)
    return sorted(item.base_name for item in found if item.type == pa_fs.FileType.Directory)


def _summary(dataset: TokenDataset, run_id: str, result: CheckResult) -> Mapping[str, Any] | None:
    text = dataset.read_run_file(run_id, "summary.json")
    if text is None:
        return None
    try:
        return dict(json.loads(text))
    except ValueError as error:
        result.add(
            f"{dataset.uri}/_runs/{run_id}/summary.json",
            f"is not JSON ({error})",
            "restore it from a copy, or delete it",
        )
        return {}


def _summary_faults(summary: Mapping[str, Any], num_rows: int) -> Iterator[str]:
    counts = Counter({name: value for name, value in summary.items() if isinstance(value, int)})
    accounted = counts["num_tokenized"] + counts["num_quarantined"] + counts["num_unchanged"]
    if "num_listed" in counts and counts["num_listed"] != accounted:
        yield (
            f"listed {counts['num_listed']} is not tokenized {counts['num_tokenized']} + "
            f"quarantined {counts['num_quarantined']} + unchanged {counts['num_unchanged']}"
        )
    num_reasons = sum(summary.get("reasons", {}).values())
    if num_reasons > counts["num_quarantined"]:
        yield f"{num_reasons} reasons for {counts['num_quarantined']} quarantined inputs"
    if "num_clips" in counts and num_rows > counts["num_clips"]:
        yield f"{num_rows} rows bear its name, it says {counts['num_clips']} clips"
