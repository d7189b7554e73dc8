"""What each clip of the corpus shows, decided by seed, part and number alone.

The two parts never share a camera direction, and a motion never wears one colour in both: a test
clip is a view that was not trained on, not a copy of one. Phases, speeds and sizes are drawn anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.motion_corpus.captions import COLOURS, SIZES, SPEEDS, write_caption
from pipeline.motion_corpus.motions import MOTION_NAMES, load_motion

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

# The horizon is cut into sectors; training cameras stand in the first part of each, test cameras in
# the second, with gaps between them.
_SECTOR_DEGREES = 30.0
_AZIMUTHS_IN_SECTOR = {"train": (0.0, 18.0), "test": (21.0, 27.0)}
_NUM_TEST_COLOURS = 3
_ELEVATION_DEGREES = (4.0, 28.0)
_DISTANCE_M = (2.1, 2.6)


@dataclass(frozen=True)
class ClipPlan:
    """Everything that decides a clip's pixels.

    Attributes:
        split, index: Which clip of the corpus.
        motion: One of `MOTION_NAMES`.
        colour, size, speed: Keys of `COLOURS`, `SIZES` and `SPEEDS`.
        caption: One sentence that is true of the clip.
        start_s: Moment of the motion that the first frame shows.
        azimuth_degrees, elevation_degrees, distance_m: Where the camera stands.
        shade: Brightness of the figure's colour, 1 as named.
        floor, sky: Colours behind the figure, RGB in [0, 1].
    """

    split: Split
    index: int
    motion: str
    colour: str
    size: str
    speed: str
    caption: str
    start_s: float
    azimuth_degrees: float
    elevation_degrees: float
    distance_m: float
    shade: float
    floor: tuple[float, float, float]
    sky: tuple[float, float, float]

    @property
    def label(self) -> int:
        """The motion's number, in [0, 15)."""
        return MOTION_NAMES.index(self.motion)

    @property
    def path(self) -> str:
        """The clip's file, below the corpus's directory."""
        return f"{self.split}/{self.index:05d}_{self.motion}.mp4"


def plan_clip(seed: int, split: Split, index: int, shown_s: float) -> ClipPlan:
    """The plan of one clip; classes take turns, so both parts are balanced.

    Args:
        seed: Seed of the corpus.
        split: Which part.
        index: Number of the clip within its part.
        shown_s: Length of the clip in seconds.

    Raises:
        SourceError: pybullet and its motions are not installed.
    """
    generator = np.random.default_rng([seed, SPLITS.index(split), index])
    motion = MOTION_NAMES[index % len(MOTION_NAMES)]
    colour = _one_of(colours_of(motion, split), generator)
    size, speed = _one_of(tuple(SIZES), generator), _one_of(tuple(SPEEDS), generator)
    sector = generator.integers(round(360 / _SECTOR_DEGREES)) * _SECTOR_DEGREES
    return ClipPlan(
        split=split,
        index=index,
        motion=motion,
        colour=colour,
        size=size,
        speed=speed,
        caption=write_caption(motion, colour, size, speed, generator),
        start_s=_start_s(motion, shown_s * SPEEDS[speed], generator),
        azimuth_degrees=float(sector + generator.uniform(*_AZIMUTHS_IN_SECTOR[split])),
        elevation_degrees=float(generator.uniform(*_ELEVATION_DEGREES)),
        distance_m=float(generator.uniform(*_DISTANCE_M)),
        shade=float(generator.uniform(0.8, 1.1)),
        floor=_muted_colour(generator, 0.25, 0.6),
        sky=_muted_colour(generator, 0.55, 0.95),
    )


def colours_of(motion: str, split: Split) -> tuple[str, ...]:
    """The colours that a motion may wear in one part of the corpus."""
    colours = tuple(COLOURS)
    first = MOTION_NAMES.index(motion)
    held_out = {colours[(first + step) % len(colours)] for step in range(_NUM_TEST_COLOURS)}
    return tuple(colour for colour in colours if (colour in held_out) == (split == "test"))


def _start_s(motion_name: str, covered_s: float, generator: np.random.Generator) -> float:
    """Any phase of a motion that repeats; early enough in one that ends to show most of it."""
    motion = load_motion(motion_name)
    latest_s = motion.duration_s
    if motion.ending == "hold":
        latest_s = max(0.1, motion.duration_s - covered_s)
    return float(generator.uniform(0, latest_s))


def _one_of(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[int(generator.integers(len(choices)))]


def _muted_colour(
    generator: np.random.Generator, darkest: float, brightest: float
) -> tuple[float, float, float]:
    grey = generator.uniform(darkest, brightest)
    red, green, blue = np.clip(grey + generator.uniform(-0.12, 0.12, 3), 0, 1)
    return float(red), float(green), float(blue)
