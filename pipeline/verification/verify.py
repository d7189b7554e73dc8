"""The whole check of a dataset: `jobs/verify_dataset.py` runs it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pydantic

from pipeline.dataset import DatasetConfig, TokenDataset
from pipeline.dataset.schema import QUARANTINE_SCHEMA
from pipeline.storage import StorageConfig
from pipeline.verification.accounts import QuarantineCheck, check_runs
from pipeline.verification.clip_table import check_clip_table
from pipeline.verification.data_files import TableFiles, check_file
from pipeline.verification.findings import CheckResult, VerificationReport
from pipeline.verification.lineage import check_lineage
from pipeline.verification.samples import SampleCheck, SampleDraw, SampleSettings
from pipeline.verification.table_log import VersionCheck, logged_files
from pipeline.whole_files import replace_file
from sweettok.strict_config import StrictConfig


class VerifyConfig(StrictConfig):
    """One run of `jobs/verify_dataset.py`.

    Attributes:
        dataset: The token dataset.
        version: Version of the clip table to check; null means the latest. The quarantine is
            always the latest one, so it is compared with the clips of the latest version only.
        pin: Name of a pinned version to check, in the place of `version`.
        num_older_versions: How many versions before it have their rows counted (from the footers
            of their files); those that are pinned are counted anyway.
        sample_clips: Clips that are made again from their videos, where these still exist; 0
            makes none.
        sample_seed: Which ones.
        source_storage: How to reach the videos.
        source_roots: Paths and URIs below which the videos may lie that rows name, for datasets of
            others: rows that name anything else are not made again. Null trusts all rows.
        psnr_tolerance_db: By how much a clip's PSNR may be below the recorded one, in dB.
        max_id_mismatch: Share of a clip's ids that may differ when it is made again, in [0, 1].
            Above 0 for a dataset that was made on other hardware, where near ties between two
            words may fall differently.
        num_threads: Files that are checked at one time.
        scratch: Local directory for temporary files: 52 bytes per clip, and a copy of each remote
            file at work; null means the system's.
        output: JSON file for the report; null writes none.
        shown_findings: Findings of each check that are printed; the report holds up to a thousand.
    """

    dataset: DatasetConfig
    version: int | None = pydantic.Field(default=None, ge=0)
    pin: str | None = None
    num_older_versions: int = pydantic.Field(default=20, ge=0)
    sample_clips: int = pydantic.Field(default=16, ge=0)
    sample_seed: int = pydantic.Field(default=0, ge=0)
    source_storage: StorageConfig = StorageConfig()
    source_roots: tuple[str, ...] | None = None
    psnr_tolerance_db: float = pydantic.Field(default=0.05, ge=0)
    max_id_mismatch: float = pydantic.Field(default=0.0, ge=0, le=1)
    num_threads: int = pydantic.Field(default=4, ge=1)
    scratch: str | None = None
    output: str | None = None
    shown_findings: int = pydantic.Field(default=20, ge=1)

    @property
    def samples(self) -> SampleSettings:
        """The settings of the sample."""
        return SampleSettings(
            num_clips=self.sample_clips,
            seed=self.sample_seed,
            storage=self.source_storage,
            roots=self.source_roots,
            psnr_tolerance_db=self.psnr_tolerance_db,
            max_id_mismatch=self.max_id_mismatch,
        )


def verify_dataset(config: VerifyConfig) -> VerificationReport:
    """Checks a dataset against its promises; changes nothing.

    Returns:
        What was found; the same is written to `config.output`.

    Raises:
        DatasetError: There is no dataset, or none whose log and lineage can be read.
    """
    started_s = time.monotonic()
    place = config.dataset
    dataset = TokenDataset.open(place.uri, config.version, pin=config.pin, storage=place.storage)
    with tempfile.TemporaryDirectory(prefix="verify-", dir=config.scratch) as scratch:
        checks = _checks(dataset, config, Path(scratch))
    report = VerificationReport(
        dataset.uri, dataset.version, time.monotonic() - started_s, tuple(checks)
    )
    if config.output is not None:
        replace_file(Path(config.output), report.to_json().encode())
    return report


def _checks(dataset: TokenDataset, config: VerifyConfig, scratch: Path) -> list[CheckResult]:
    lineage, tokenizer = check_lineage(dataset, scratch)
    quarantine, quarantine_files = _check_quarantine(dataset, scratch)
    draw = SampleDraw(config.sample_clips, config.sample_seed)
    clips = check_clip_table(
        dataset, draw, quarantine.video_ids, num_threads=config.num_threads, scratch=scratch
    )
    clips.files.merge(quarantine_files)
    if config.version is None and config.pin is None:
        quarantine.check_overlap(clips.tokenized)
    return [
        lineage,
        clips.files,
        _check_versions(dataset, config.num_older_versions),
        clips.rows,
        clips.videos,
        quarantine.result,
        check_runs(dataset, clips.num_rows_by_run),
        _check_samples(dataset, draw, tokenizer, config.samples),
    ]


def _check_versions(dataset: TokenDataset, num_older: int) -> CheckResult:
    pins = {pin.name: pin.version for pin in dataset.pins() if not pin.is_expired}
    return VersionCheck(dataset.clips, num_older, pins).check()


def _check_quarantine(dataset: TokenDataset, scratch: Path) -> tuple[QuarantineCheck, CheckResult]:
    table = dataset.quarantined
    check = QuarantineCheck(dataset.uri, table.uri)
    files = TableFiles(table.uri, table.filesystem, QUARANTINE_SCHEMA, frozenset(), scratch)
    result = CheckResult("data files", "file")
    for file in logged_files(table):
        result.merge(check_file(files, file, lambda rows, _: check.add(rows)))
    return check, result


def _check_samples(
    dataset: TokenDataset, draw: SampleDraw, tokenizer: Path | None, settings: SampleSettings
) -> CheckResult:
    if tokenizer is None:
        note = "no clip was made again: the stored tokenizer is not intact"
        return CheckResult("samples", "clip", notes=[note])
    if not settings.num_clips:
        return CheckResult("samples", "clip")
    return SampleCheck(dataset, tokenizer, settings).check(draw.rows())
