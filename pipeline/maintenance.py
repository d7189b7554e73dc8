"""Looking after a token dataset (`jobs/maintain_dataset.py`): safe beside running jobs and readers.

In this order: deletions, takedowns, pins, compaction of small files, clean-up of files that no
protected version needs, a checkpoint of the log. Each step leaves a readable dataset wherever it is
stopped, and starting the job again does what is left.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pyarrow as pa
import pydantic

from pipeline.dataset import DatasetConfig, TokenDataset
from pipeline.dataset.clean_up import UnneededFiles, active_pins, delete_files, unneeded_files
from pipeline.dataset.commits import dataset_errors, on_newest_state
from pipeline.dataset.compaction import CompactionSummary, compact, small_file_groups
from pipeline.dataset.data_files import MAX_WAIT_S
from pipeline.dataset.deletion import (
    Removal,
    expected_deletion,
    expected_takedown,
    video_id_of,
)
from pipeline.dataset.pins import Pin, Pins
from pipeline.dataset.side_files import remove_copy, unused_copies
from pipeline.dataset.token_dataset import TOKENIZER_CACHE
from pipeline.dataset.video_table import VideoTable
from pipeline.errors import DatasetError
from pipeline.maintenance_summary import MaintenanceSummary, TableSummary
from sweettok.strict_config import StrictConfig

_MIN_GRACE_H = 2 * MAX_WAIT_S / 3600


class DeleteConfig(StrictConfig):
    """Videos whose rows go, and come back with the next run that lists them.

    Attributes:
        videos: URIs, local paths or ids of videos whose clips, or quarantine rows, are deleted.
            What was taken down stays out.
    """

    videos: tuple[str, ...] = ()


class TakedownConfig(StrictConfig):
    """Videos that must not be in the dataset.

    Attributes:
        videos: URIs, local paths or ids of videos to delete and never to tokenize again.
        reason: Why, for people; stored with the videos' quarantine rows.
        lift: Videos (as above) that may come in again.
    """

    videos: tuple[str, ...] = ()
    reason: str | None = pydantic.Field(default=None, min_length=1)
    lift: tuple[str, ...] = ()

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.videos and self.reason is None:
            raise ValueError("a takedown needs a reason; give takedown.reason")
        return self


class PinConfig(StrictConfig):
    """A version to protect from the clean-up.

    Attributes:
        name: Name of the pin; null sets none.
        version: Version of the clip table; null takes the latest, after any takedown.
        days: For how many days; null for ever.
    """

    name: str | None = None
    version: int | None = pydantic.Field(default=None, ge=0)
    days: float | None = pydantic.Field(default=None, gt=0)

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.name is None and (self.version is not None or self.days is not None):
            raise ValueError("a pin needs a name; give pin.name")
        return self


class CompactConfig(StrictConfig):
    """Many small files into few large ones.

    Attributes:
        enabled: Whether to do it.
        target_file_bytes: Size of the new files; files of half of it or more are left alone.
            128 to 512 MiB suit most readers. Takes two to three times as much memory.
    """

    enabled: bool = True
    target_file_bytes: int = pydantic.Field(default=256 * 2**20, ge=1)


class CleanUpConfig(StrictConfig):
    """Which files to delete.

    Attributes:
        enabled: Whether to delete any.
        retention_h: Versions that were the latest one within so many hours stay readable, and so
            do pinned ones; 0 keeps the latest and the pinned ones only.
        abandoned_after_h: Age from which files that no commit names count as left by a crash.
    """

    enabled: bool = True
    retention_h: int = pydantic.Field(default=7 * 24, ge=0)
    abandoned_after_h: float = pydantic.Field(default=24, ge=_MIN_GRACE_H)


class TokenizerCacheConfig(StrictConfig):
    """Copies of tokenizers on this machine, which readers of datasets leave behind.

    Attributes:
        directory: Where they are.
        unused_days: Remove those that were not used for so many days; null removes none.
    """

    directory: str = TOKENIZER_CACHE
    unused_days: float | None = pydantic.Field(default=None, gt=0)


class MaintainConfig(StrictConfig):
    """One run of `jobs/maintain_dataset.py`.

    Attributes:
        dataset: The token dataset.
        dry_run: Change nothing, and print what would happen to the dataset as it is now.
        delete: Videos to delete, so that the next run makes their rows anew.
        takedown: Videos to delete for good, or to let in again.
        pin: A version to protect.
        unpin: Names of pins to remove; an unknown one is an error before anything is done.
        compact, clean_up, tokenizer_cache: Settings of the parts, described where each is defined.
        checkpoint: Write the state of each log into one file, so that opening reads less.
    """

    dataset: DatasetConfig
    dry_run: bool = False
    delete: DeleteConfig = DeleteConfig()
    takedown: TakedownConfig = TakedownConfig()
    pin: PinConfig = PinConfig()
    unpin: tuple[str, ...] = ()
    compact: CompactConfig = CompactConfig()
    clean_up: CleanUpConfig = CleanUpConfig()
    tokenizer_cache: TokenizerCacheConfig = TokenizerCacheConfig()
    checkpoint: bool = True


def maintain_dataset(config: MaintainConfig) -> MaintenanceSummary:
    """Does what the config asks for; safe while other jobs write and read.

    Raises:
        DatasetError: There is no dataset, an id, pin or version to act on is unknown, or the
            store refuses.
    """
    dataset = TokenDataset.open(config.dataset.uri, storage=config.dataset.storage)
    _check_unpinned(dataset, config.unpin)
    run_id = f"maintain-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    if not config.dry_run:
        dataset.write_run_file(run_id, "config.yaml", config.to_yaml())
        for table in (dataset.clips, dataset.quarantined):
            on_newest_state(table, table.ensure_properties)
    deleted = _delete(dataset, config, run_id)
    not_lifted = _not_taken_down(dataset, config.takedown.lift)
    num_lifted = _lift(dataset, config, run_id)
    taken_down = _take_down(dataset, config, run_id)
    _set_pins(dataset, config)
    tables = {
        "clips": _look_after(dataset.clips, config, run_id),
        "quarantine": _look_after(dataset.quarantined, config, run_id),
    }
    dataset.refresh()
    pins = active_pins(dataset.clips)
    summary = MaintenanceSummary(
        dataset_uri=dataset.uri,
        dataset_version=dataset.version,
        dry_run=config.dry_run,
        deleted=deleted,
        taken_down=taken_down,
        num_lifted=num_lifted,
        not_lifted=not_lifted,
        pins=tuple(pins),
        num_held_by_pin=_taken_down_in(dataset, pins),
        tables=tables,
        cached_copies=_clean_cache(config),
    )
    if not config.dry_run:
        text = json.dumps(dataclasses.asdict(summary), indent=2, default=str) + "\n"
        dataset.write_run_file(run_id, "summary.json", text)
    return summary


def _delete(dataset: TokenDataset, config: MaintainConfig, run_id: str) -> Removal:
    videos = config.delete.videos
    if not videos:
        return Removal()
    dataset.refresh()
    expected = expected_deletion(dataset, videos)
    if not config.dry_run:
        ids = pa.array([video_id_of(video) for video in videos], pa.string())
        dataset.delete_videos(ids, run_id=run_id, reason="deleted by name")
    return expected


def _take_down(dataset: TokenDataset, config: MaintainConfig, run_id: str) -> Removal:
    takedown = config.takedown
    if not takedown.videos:
        return Removal()
    if config.dry_run:
        return expected_takedown(dataset, takedown.videos)
    assert takedown.reason is not None
    return dataset.take_down(takedown.videos, run_id=run_id, reason=takedown.reason)


def _lift(dataset: TokenDataset, config: MaintainConfig, run_id: str) -> int:
    videos = config.takedown.lift
    if config.dry_run:
        ids = {video_id_of(video) for video in videos}
        return len(ids.intersection(dataset.taken_down_ids().to_pylist()))
    return dataset.lift_takedown(videos, run_id=run_id) if videos else 0


def _not_taken_down(dataset: TokenDataset, videos: Sequence[str]) -> tuple[str, ...]:
    banned = set(dataset.taken_down_ids().to_pylist()) if videos else set()
    return tuple(video for video in videos if video_id_of(video) not in banned)


def _check_unpinned(dataset: TokenDataset, names: Sequence[str]) -> None:
    with dataset_errors(dataset.uri):
        known = Pins(dataset.clips).names()
    unknown = [name for name in names if name not in known]
    if unknown:
        pins = f"its pins are {', '.join(known)}" if known else "it has no pins"
        raise DatasetError(f"{dataset.uri}: there is no pin {unknown[0]!r} to remove; {pins}")


def _set_pins(dataset: TokenDataset, config: MaintainConfig) -> None:
    if config.dry_run:
        return
    dataset.refresh()
    for name in config.unpin:
        dataset.unpin(name)
    for pin in dataset.pins():
        if pin.is_expired:
            dataset.unpin(pin.name)
    if config.pin.name is not None:
        dataset.pin(config.pin.name, version=config.pin.version, days=config.pin.days)


def _look_after(table: VideoTable, config: MaintainConfig, run_id: str) -> TableSummary:
    compacted = CompactionSummary()
    if config.compact.enabled:
        compacted = _compact(table, config, run_id)
    deleted = UnneededFiles()
    if config.clean_up.enabled:

        def find() -> UnneededFiles:
            return unneeded_files(
                table,
                retention_h=config.clean_up.retention_h,
                grace=timedelta(hours=config.clean_up.abandoned_after_h),
                keep_versions=_versions_to_keep(table, config),
            )

        deleted = (
            find() if config.dry_run else delete_files(table, find, {"sweettok.run_id": run_id})
        )
    if config.checkpoint and not config.dry_run:
        table.checkpoint()
    sizes = table.file_sizes()
    return TableSummary(compacted, deleted, len(sizes), sum(sizes.values()))


def _compact(table: VideoTable, config: MaintainConfig, run_id: str) -> CompactionSummary:
    target_bytes = config.compact.target_file_bytes
    table.refresh()
    if not config.dry_run:
        return compact(table, target_bytes, {"sweettok.run_id": run_id})
    groups = small_file_groups(table, target_bytes)
    num_bytes = sum(group.size_bytes for group in groups)
    num_files = sum(len(group.paths) for group in groups)
    return CompactionSummary(num_files, num_bytes, len(groups), num_bytes)


def _versions_to_keep(table: VideoTable, config: MaintainConfig) -> list[int]:
    """Pinned versions, as they are now; a dry run looks as if its own wishes were fulfilled."""
    unpinned = config.unpin if config.dry_run else ()
    return sorted({pin.version for pin in active_pins(table) if pin.name not in unpinned})


def _taken_down_in(dataset: TokenDataset, pins: list[Pin]) -> dict[str, int]:
    taken_down = dataset.taken_down_ids()
    if not len(taken_down):
        return {}
    held = {}
    for pin in pins:
        clips = VideoTable(dataset.uri, dataset.clips.options, pin.version)
        held[pin.name] = clips.keys_of(taken_down).num_rows
    return held


def _clean_cache(config: MaintainConfig) -> dict[str, int]:
    cache = config.tokenizer_cache
    if cache.unused_days is None:
        return {}
    copies = unused_copies(Path(cache.directory).expanduser(), timedelta(days=cache.unused_days))
    for path in [] if config.dry_run else copies:
        remove_copy(path)
    return {str(path): num_bytes for path, num_bytes in copies.items()}
