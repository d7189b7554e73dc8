"""The account of one run of maintenance: videos, files and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.dataset.clean_up import UnneededFiles
from pipeline.dataset.compaction import CompactionSummary
from pipeline.dataset.deletion import Removal
from pipeline.dataset.pins import Pin
from pipeline.wording import counted


@dataclass(frozen=True, slots=True)
class TableSummary:
    """What happened to one table, or would happen.

    Attributes:
        compacted: Its small files.
        deleted: Its unneeded files.
        num_files, num_bytes: Its newest version afterwards.
    """

    compacted: CompactionSummary
    deleted: UnneededFiles
    num_files: int
    num_bytes: int

    def lines(self, name: str) -> list[str]:
        """For people."""
        lines = []
        small, gone = self.compacted, self.deleted
        if small.num_files_before:
            lines.append(
                f"{counted(small.num_files_before, 'small file')} "
                f"({_size(small.num_bytes_before)}) → "
                f"{small.num_files_after} ({_size(small.num_bytes_after)})"
            )
        if gone.expired or gone.abandoned:
            lines.append(
                f"deleted {_files(gone.expired)} of old versions and {_files(gone.abandoned)} of "
                "crashed runs"
            )
        if gone.pinned:
            lines.append(f"kept {_files(gone.pinned)} for pinned versions")
        files = counted(self.num_files, "file")
        lines.append(f"{files} ({_size(self.num_bytes)}) in the newest version")
        return [f"{name}: {line}" for line in lines]


@dataclass(frozen=True)
class MaintenanceSummary:
    """What a run did, or would do.

    Attributes:
        dataset_uri: Root of the dataset.
        dataset_version: Its version afterwards.
        dry_run: Whether nothing was changed.
        deleted: What a plain deletion took out, as counted just before it.
        taken_down: What takedowns took out.
        num_lifted: Videos that may come in again.
        not_lifted: Videos to let in again, as they were named, that nobody had taken down.
        pins: Active pins afterwards.
        num_held_by_pin: Per pin, how many videos that were taken down its version still holds.
        tables: What happened to each table.
        cached_copies: Removed copies of tokenizers: size in bytes by path.
    """

    dataset_uri: str
    dataset_version: int
    dry_run: bool
    deleted: Removal
    taken_down: Removal
    num_lifted: int
    not_lifted: tuple[str, ...]
    pins: tuple[Pin, ...]
    num_held_by_pin: dict[str, int]
    tables: dict[str, TableSummary]
    cached_copies: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The summary for people."""
        lines = ["dry run, nothing was changed; this would happen:"] if self.dry_run else []
        lines += self._removals()
        for name, table in self.tables.items():
            lines += table.lines(name)
        for pin in self.pins:
            until = (
                "for ever" if pin.expires_at is None else f"until {pin.expires_at:%Y-%m-%d %H:%M}"
            )
            held = self.num_held_by_pin.get(pin.name)
            still = f"; still holds {counted(held, 'taken-down video')}" if held else ""
            lines.append(f"pin {pin.name}: version {pin.version} {until}{still}")
        if self.cached_copies:
            size = _size(sum(self.cached_copies.values()))
            copies = counted(len(self.cached_copies), "cached tokenizer")
            lines.append(f"removed {copies} ({size})")
        return [*lines, f"{self.dataset_uri} is at version {self.dataset_version}"]

    def _removals(self) -> list[str]:
        lines = []
        deleted, down = self.deleted, self.taken_down
        if deleted != Removal():
            lines.append(f"deleted: {_rows_of(deleted)}")
        if down != Removal():
            newly = counted(down.num_forbidden, "video")
            lines.append(f"takedowns: {newly} newly kept out; deleted: {_rows_of(down)}")
        if self.num_lifted:
            lines.append(f"takedowns: {counted(self.num_lifted, 'video')} may come in again")
        for videos, so in (
            (deleted.unknown, "not in this dataset; nothing to delete"),
            (down.unknown, "not in this dataset; kept out from now on. Is the name right?"),
            (self.not_lifted, "not taken down; nothing to lift"),
        ):
            lines += [f"WARNING: {video}: {so}" for video in videos]
        return lines


def _files(sizes: Mapping[str, int]) -> str:
    return f"{counted(len(sizes), 'file')} ({_size(sum(sizes.values()))})"


def _rows_of(removal: Removal) -> str:
    return f"{counted(removal.num_videos, 'video')}, {counted(removal.num_clips, 'clip')}"


def _size(num_bytes: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes} B"
