"""Goes through the videos part by part and measures what is not measured yet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import SourceError
from pipeline.evaluation.clip_reader import ReadVideo
from pipeline.evaluation.config import ORIGINALS
from pipeline.evaluation.instruments import Instruments, Pixels
from pipeline.evaluation.parts import Part, PartStore
from pipeline.evaluation.subjects import Subject

logger = logging.getLogger(__name__)

_LOG_EVERY_S = 30.0  # within a part of many clips
ItemT = TypeVar("ItemT")
Measure = Callable[[Pixels], tuple[dict[str, Tensor], Pixels]]


@dataclass(frozen=True, eq=False)
class Row:
    """What is measured of every clip, and where it is kept.

    Attributes:
        label: Names it.
        measure: Rows of measures of a batch of clips, and the pixels to show of them.
        store: Its parts.
    """

    label: str
    measure: Measure
    store: PartStore


def originals_row(instruments: Instruments, store: PartStore, label: str = ORIGINALS) -> Row:
    """Clips as they are: what the networks see in them."""

    def measure(pixels: Pixels) -> tuple[dict[str, Tensor], Pixels]:
        return instruments.look_at(pixels), pixels

    return Row(label, measure, store)


def subject_row(instruments: Instruments, subject: Subject, store: PartStore) -> Row:
    """Clips beside what a tokenizer gives back of them."""
    return Row(subject.label, lambda pixels: instruments.compare(pixels, subject), store)


def measure_rows(
    rows: Sequence[Row],
    videos: Iterable[Any],
    read: Callable[[Iterable[Any]], Iterator[ReadVideo]],
    *,
    videos_per_part: int,
    batch_size: int,
    max_clips: int | None,
    shown_clips: int,
) -> dict[str, Part]:
    """Measures of all rows on the same clips, by label.

    Args:
        rows: The first one decides how many clips there are.
        videos: What `read` reads, in the order of the evaluation.
        read: Gives the clips of some of them.
        videos_per_part: Of how many videos measures are kept together.
        batch_size: Clips that are looked at together.
        max_clips: Stop when there are so many.
        shown_clips: Of how many clips pixels are kept, all in the first part.

    Raises:
        SourceError: Not one clip came out.
    """
    started_s = time.monotonic()
    whole = list(batched(videos, videos_per_part))
    num_clips = 0
    parts: dict[str, list[Part]] = {row.label: [] for row in rows}
    for number, chunk in enumerate(whole):
        _measure_part(rows, number, partial(read, chunk), batch_size, shown_clips)
        for row in rows:
            part = row.store.read(number)
            assert part is not None, "just measured"
            parts[row.label].append(part)
        num_clips += len(parts[rows[0].label][-1].videos)
        _log_progress(number + 1, len(whole), num_clips, max_clips, started_s)
        if max_clips is not None and num_clips >= max_clips:
            break
    if not num_clips:
        found = Part.joined(parts[rows[0].label]).left_out if whole else []
        why = found[0]["message"] if found else "there are none"
        raise SourceError(f"not one of {len(found)} videos gave a clip; the first one: {why}")
    return {label: Part.joined(found, max_clips) for label, found in parts.items()}


def _measure_part(
    rows: Sequence[Row],
    number: int,
    read: Callable[[], Iterator[ReadVideo]],
    batch_size: int,
    shown_clips: int,
) -> None:
    missing = [row for row in rows if row.store.read(number) is None]
    if not missing:
        return
    gathered = {row.label: _Gathered() for row in missing}
    names: list[str] = []
    left_out: list[dict[str, str]] = []
    logged_s = time.monotonic()
    for batch in batched(_clips(read(), names, left_out), batch_size):
        pixels = torch.from_numpy(np.stack(batch))
        shown = [] if number else _first_of_their_videos(names, len(batch))
        for row in missing:
            gathered[row.label].add(*row.measure(pixels), shown)
        if time.monotonic() - logged_s >= _LOG_EVERY_S:
            logged_s = time.monotonic()
            logger.info("part %d: %d clips so far", number + 1, len(names))
    for row in missing:
        found = gathered[row.label]
        row.store.write(
            number, Part(found.measures(), list(names), list(left_out), found.shown(shown_clips))
        )


class _Gathered:
    """What one row says of the batches of one part."""

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []
        self._shown: list[Tensor] = []

    def add(self, measures: dict[str, Tensor], pixels: Pixels, shown: list[int]) -> None:
        self._batches.append(measures)
        if shown:
            self._shown.append(pixels[shown])

    def measures(self) -> dict[str, Tensor]:
        names = self._batches[0] if self._batches else ()
        return {name: torch.cat([batch[name] for batch in self._batches]) for name in names}

    def shown(self, count: int) -> Tensor | None:
        return torch.cat(self._shown)[:count] if self._shown and count else None


def _first_of_their_videos(names: Sequence[str], num_last: int) -> list[int]:
    """Which of the last clips are the first ones of their videos."""
    begin = len(names) - num_last
    return [row for row in range(num_last) if names[begin + row] not in names[: begin + row]]


def batched(items: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """The items in their order, so many at a time."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _clips(
    videos: Iterator[ReadVideo], names: list[str], left_out: list[dict[str, str]]
) -> Iterator[np.ndarray]:
    """All clips, one after the other; notes whose they are, and what gave none."""
    for video in videos:
        if video.fault is not None:
            left_out.append(
                {
                    "video": video.name,
                    "reason": video.fault.reason.value,
                    "message": video.fault.message,
                }
            )
            logger.warning("%s is left out: %s", video.name, video.fault.message)
        for clip in video.clips:
            names.append(video.name)
            yield clip


def _log_progress(
    done: int, total: int, num_clips: int, max_clips: int | None, started_s: float
) -> None:
    share = done / total
    if max_clips is not None:
        share = max(share, min(1.0, num_clips / max_clips))
    left_min = (time.monotonic() - started_s) / share * (1 - share) / 60
    logger.info("part %d of %d: %d clips; about %.1f min left", done, total, num_clips, left_min)
