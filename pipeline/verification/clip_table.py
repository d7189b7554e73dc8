"""All files and rows of the clip table in one pass, by several threads, in bounded memory."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset import Lineage, TokenDataset
from pipeline.dataset.schema import OPTIONAL_COLUMNS, TOKEN_SCHEMA
from pipeline.records import stable_id
from pipeline.verification.clip_keys import KeyPartitions, VideoCheck, VideoSearch, keys_of
from pipeline.verification.clip_rows import row_faults
from pipeline.verification.data_files import WITHOUT_A_COPY, TableFiles, check_file
from pipeline.verification.findings import CheckResult
from pipeline.verification.remedies import make_again
from pipeline.verification.samples import SampleDraw
from pipeline.verification.table_log import STATISTICS_COLUMNS, LoggedFile, logged_files

logger = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S = 10.0


@dataclass(frozen=True)
class ClipTableResult:
    """What a pass over the clip table gave.

    Attributes:
        files, rows, videos: The results of its checks.
        tokenized: Those of the video ids asked about that have clips.
        num_rows_by_run: Rows by the run that wrote them.
    """

    files: CheckResult
    rows: CheckResult
    videos: CheckResult
    tokenized: set[str]
    num_rows_by_run: Counter[str]


def check_clip_table(
    dataset: TokenDataset,
    draw: SampleDraw,
    quarantined: Collection[str],
    *,
    num_threads: int,
    scratch: Path,
) -> ClipTableResult:
    """Reads every file of the clip table once.

    Args:
        dataset: The dataset at the version to check.
        draw: Is offered every sound row.
        quarantined: Video ids to look for among the rows.
        num_threads: Files at one time.
        scratch: Local directory for the keys of all rows and copies of remote files.
    """
    clips = dataset.clips
    logged = logged_files(clips)
    num_logged = sum(file.num_rows or 0 for file in logged)
    logger.info("%d files with %d clips to check", len(logged), num_logged)
    added = [name for name in clips.schema.names if name not in TOKEN_SCHEMA.names]
    optional = frozenset([*added, *OPTIONAL_COLUMNS])
    table = TableFiles(clips.uri, clips.filesystem, clips.schema, optional, scratch)
    pass_ = _Pass(dataset.lineage, table, draw, KeyPartitions(scratch, num_logged))
    try:
        files = pass_.check_files(logged, num_threads)
        is_complete = not files.num_findings and not pass_.num_malformed
        videos = VideoCheck(dataset.uri, [file.path for file in logged], are_complete=is_complete)
        search = VideoSearch(quarantined)
        for keys in pass_.partitions:
            videos.check(keys)
            search.add(keys)
    finally:
        pass_.partitions.close()
    return ClipTableResult(files, pass_.rows, videos.result, search.found, pass_.num_rows_by_run)


@dataclass
class _Pass:
    """What the threads of a pass share."""

    lineage: Lineage
    table: TableFiles
    draw: SampleDraw
    partitions: KeyPartitions
    rows: CheckResult = field(default_factory=lambda: CheckResult("rows", "row"))
    num_rows_by_run: Counter[str] = field(default_factory=Counter)
    num_malformed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check_files(self, logged: list[LoggedFile], num_threads: int) -> CheckResult:
        total = CheckResult("data files", "file")
        reported_s = time.monotonic()
        with ThreadPoolExecutor(num_threads) as threads:
            for result in threads.map(self._check_file, range(len(logged)), logged):
                total.merge(result)
                if time.monotonic() - reported_s > _PROGRESS_INTERVAL_S:
                    reported_s = time.monotonic()
                    logger.info(
                        "%d of %d files checked, %d clips, %d findings",
                        total.num_checked,
                        len(logged),
                        self.rows.num_checked,
                        total.num_findings + self.rows.num_findings,
                    )
        return total

    def _check_file(self, number: int, file: LoggedFile) -> CheckResult:
        visitor = _FileVisitor(self, number, file)
        result = check_file(self.table, file, visitor.visit)
        if not result.num_findings:
            visitor.check_statistics(result)
        return result


class _FileVisitor:
    """Takes the rows of one file; each file has its own, the rest they share."""

    def __init__(self, shared: _Pass, number: int, file: LoggedFile) -> None:
        self._shared = shared
        self._number = number
        self._file = file
        self._ranges: dict[str, tuple[Any, Any]] = {}

    def visit(self, rows: pa.RecordBatch, first_row: int) -> None:
        """Checks a batch of rows."""
        result = CheckResult("rows", "row", num_checked=rows.num_rows)
        sound, whole = np.ones(rows.num_rows, bool), np.ones(rows.num_rows, bool)
        for fault in row_faults(rows, self._shared.lineage):
            sound &= ~fault.wrong
            if fault.is_malformed:
                whole &= ~fault.wrong
            for place in np.flatnonzero(fault.wrong).tolist():
                where = f"{self._shared.table.where(self._file)} row {first_row + place}"
                result.add(where, fault.describe(place), self._remedy(rows, place))
        self._widen_ranges(rows)
        runs = {
            item["values"]: item["counts"] for item in rows["run_id"].value_counts().to_pylist()
        }
        keys = keys_of(rows, self._number, first_row, pa.array(np.flatnonzero(whole)))
        self._shared.partitions.add(keys)
        self._shared.draw.offer(rows, sound)
        with self._shared.lock:
            self._shared.rows.merge(result)
            self._shared.num_malformed += int((~whole).sum())
            self._shared.num_rows_by_run.update(runs)

    def check_statistics(self, result: CheckResult) -> None:
        """Whether a reader that skips files by the log's ranges would find all rows."""
        for name, (lowest, highest) in self._ranges.items():
            logged = self._file.ranges.get(name)
            if logged is not None and (lowest < logged[0] or highest > logged[1]):
                result.add(
                    self._shared.table.where(self._file),
                    f"holds {name} from {lowest} to {highest}, the log says {logged[0]} to "
                    f"{logged[1]}: a reader with a filter may miss rows",
                    WITHOUT_A_COPY,
                )

    def _remedy(self, rows: pa.RecordBatch, place: int) -> str:
        """Names the video that the row says it is of, and the one that its URI says."""
        uri = rows["video_uri"][place].as_py()
        video_id = rows["video_id"][place].as_py()
        ids = [video_id, None if uri is None else stable_id("video", uri)]
        return make_again(self._shared.table.uri, ids)

    def _widen_ranges(self, rows: pa.RecordBatch) -> None:
        for name in STATISTICS_COLUMNS:
            ends = pc.min_max(rows[name]).as_py()
            if ends["min"] is None:
                continue
            low, high = self._ranges.get(name, (ends["min"], ends["max"]))
            self._ranges[name] = (min(low, ends["min"]), max(high, ends["max"]))
