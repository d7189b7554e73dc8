"""The clips on an evaluation's page: the worst and the best ones, read and encoded once more.

Pixels of all clips are never kept, and which clips are the worst is known only at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.evaluation.generated import ClipSource
from pipeline.evaluation.instruments import Instruments
from pipeline.evaluation.parts import Part
from pipeline.evaluation.protocol import video_name
from pipeline.evaluation.subjects import Subject

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ShownClip:
    """A clip to play.

    Attributes:
        video: Folder and file of its video.
        number: Which of the video's clips it is, from 1.
        note: "worst" or "best".
        original: Its frames.
        found: What every shown tokenizer makes of it, by label: rows of measures, one clip long.
        remade: The frames that each of them gives back.
    """

    video: str
    number: int
    note: str
    original: UInt8[np.ndarray, "t h w 3"]
    found: Mapping[str, Mapping[str, Tensor]]
    remade: Mapping[str, UInt8[np.ndarray, "t h w 3"]]


def show_clips(
    source: ClipSource,
    videos: Sequence[str],
    chosen: Mapping[int, str],
    subjects: Sequence[Subject],
    instruments: Instruments,
) -> list[ShownClip]:
    """Reads the chosen clips again and has them encoded, in the order of `chosen`.

    Args:
        source: What the evaluation read.
        videos: The name of each measured clip's video, in the order of the evaluation.
        chosen: Why each of these positions is shown.
        subjects: Who encodes them.
        instruments: What looks at them.
    """
    numbers = _numbers_within_videos(videos)
    wanted = {(videos[position], numbers[position]) for position in chosen}
    pixels = _read(source, wanted)
    shown = []
    for position, note in chosen.items():
        video, number = videos[position], numbers[position]
        if (video, number) not in pixels:
            logger.warning("clip %d of %s cannot be read again to be shown", number, video)
            continue
        original = pixels[video, number]
        compared = {
            subject.label: instruments.compare(torch.from_numpy(original)[None], subject)
            for subject in subjects
        }
        shown.append(
            ShownClip(
                video,
                number,
                note,
                original,
                found={label: measures for label, (measures, _) in compared.items()},
                remade={label: remade[0].numpy() for label, (_, remade) in compared.items()},
            )
        )
    return shown


def codes_used(part: Part, codebook: str, num_codes: int) -> np.ndarray:
    """How often each code of a codebook was chosen over all clips, int64 [num_codes]."""
    ids = part.measures[f"ids/{codebook}"].flatten().long()
    return torch.bincount(ids, minlength=num_codes).numpy()


def _numbers_within_videos(videos: Sequence[str]) -> list[int]:
    """Which of its video's clips each one is, from 1; videos of one name count as one."""
    seen: dict[str, int] = {}
    numbers = []
    for video in videos:
        seen[video] = seen.get(video, 0) + 1
        numbers.append(seen[video])
    return numbers


def _read(
    source: ClipSource, wanted: set[tuple[str, int]]
) -> dict[tuple[str, int], UInt8[np.ndarray, "t h w 3"]]:
    names = {video for video, _ in wanted}
    seen = dict.fromkeys(names, 0)
    found = {}
    for read in source.read([unit for unit in source.videos if video_name(unit) in names]):
        for clip in read.clips:
            seen[read.name] += 1
            if (read.name, seen[read.name]) in wanted:
                found[read.name, seen[read.name]] = clip
    return found
