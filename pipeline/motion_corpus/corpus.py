"""The corpus on disk: mp4 files, one JSON line per clip, and the settings they were made with.

    data/motion/train/00000_backflip.mp4 …   data/motion/test/00000_backflip.mp4 …
    data/motion/captions.jsonl               file, split, label, caption and view of every clip
    data/motion/corpus.json                  the settings

Every file is renamed into place, so an interrupted run leaves whole clips only and the next one
makes the rest. The same seed gives the same clips for any number of processes.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pydantic

from pipeline.errors import SourceError
from pipeline.motion_corpus.motions import MOTION_NAMES, data_directory
from pipeline.motion_corpus.plans import SPLITS, ClipPlan, Split, plan_clip
from pipeline.motion_corpus.renderer import FigureRenderer
from pipeline.preview.video_files import write_mp4
from pipeline.whole_files import replace_file
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

CAPTIONS_FILE = "captions.jsonl"
CORPUS_FILE = "corpus.json"
_LOG_EVERY_S = 20.0


class MotionCorpusConfig(StrictConfig):
    """The motion corpus.

    Attributes:
        directory: Where it goes.
        seed: Decides every clip.
        num_train_clips, num_test_clips: Clips of both parts; the 15 motions take turns.
        num_frames: Frames per clip.
        fps: Frames per second.
        size_px: Edge of the square frames.
        num_processes: Rendering processes; null takes one per core. Decides no pixel.
    """

    directory: str = "data/motion"
    seed: int = pydantic.Field(default=0, ge=0)
    num_train_clips: int = pydantic.Field(default=1200, ge=1)
    num_test_clips: int = pydantic.Field(default=150, ge=1)
    num_frames: int = pydantic.Field(default=32, ge=1)
    fps: float = pydantic.Field(default=12.0, gt=0)
    size_px: int = pydantic.Field(default=128, ge=16, multiple_of=2)
    num_processes: int | None = pydantic.Field(default=None, ge=1)

    @property
    def recipe(self) -> dict[str, object]:
        """What decides a clip's pixels; a larger corpus of the same recipe has the same clips."""
        mapping = self.to_mapping()
        return {name: mapping[name] for name in mapping if name not in _DECIDE_NO_PIXEL}

    def plans(self, split: Split) -> list[ClipPlan]:
        """What the clips of one part show, in order."""
        count = self.num_train_clips if split == "train" else self.num_test_clips
        shown_s = self.num_frames / self.fps
        return [plan_clip(self.seed, split, index, shown_s) for index in range(count)]


_DECIDE_NO_PIXEL = ("directory", "num_train_clips", "num_test_clips", "num_processes")


@dataclass(frozen=True)
class LabelledClip:
    """One clip of a corpus on disk.

    Attributes:
        path: The video file.
        split: "train" or "test".
        label: The motion's number.
        motion: The motion's name.
        caption: One sentence.
    """

    path: Path
    split: Split
    label: int
    motion: str
    caption: str


def make_motion_corpus(config: MotionCorpusConfig) -> list[LabelledClip]:
    """Renders every clip that is not there yet; returns all of them.

    Asking for more clips than there are adds to them; asking for fewer leaves the files.

    Raises:
        SourceError: pybullet is not installed, or the directory holds another corpus.
    """
    data_directory()
    directory = Path(config.directory)
    _check_recipe(directory, config)
    plans = [plan for split in SPLITS for plan in config.plans(split)]
    missing = [plan for plan in plans if not (directory / plan.path).exists()]
    if missing:
        text = json.dumps(config.recipe, indent=2) + "\n"
        replace_file(directory / CORPUS_FILE, text.encode())
        _render_all(missing, config)
    lines = "".join(json.dumps(_caption_row(plan)) + "\n" for plan in plans)
    captions = directory / CAPTIONS_FILE
    if not captions.exists() or captions.read_text("utf-8") != lines:
        replace_file(captions, lines.encode())
    logger.info("%d clips of %d motions in %s", len(plans), len(MOTION_NAMES), directory)
    return read_labelled_clips(directory)


def read_labelled_clips(directory: str | Path) -> list[LabelledClip]:
    """The clips of a corpus in their order, training part first.

    Raises:
        SourceError: There is no complete corpus.
    """
    path = Path(directory) / CAPTIONS_FILE
    if not path.exists():
        raise SourceError(
            f"{path}: no motion corpus there; make one with "
            f"python jobs/make_motion_corpus.py --config configs/motion_corpus.yaml"
        )
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        LabelledClip(
            path=Path(directory) / row["video"],
            split=row["split"],
            label=row["label_id"],
            motion=row["label"],
            caption=row["caption"],
        )
        for row in rows
    ]


def _check_recipe(directory: Path, config: MotionCorpusConfig) -> None:
    path = directory / CORPUS_FILE
    if not path.exists():
        return
    found = json.loads(path.read_text("utf-8"))
    wanted = config.recipe
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        name = different[0]
        raise SourceError(
            f"{directory}: holds a motion corpus of other settings ({name} is "
            f"{found.get(name)!r} there, {wanted[name]!r} wanted); delete it or choose another "
            "directory"
        )


def _render_all(plans: list[ClipPlan], config: MotionCorpusConfig) -> None:
    num_processes = min(config.num_processes or os.cpu_count() or 1, len(plans))
    started_s = logged_s = time.monotonic()
    logger.info("rendering %d clips with %d processes", len(plans), num_processes)
    # Parts of one process each, taken in turns, and small: progress and balance need no more.
    parts = [plans[first : first + 8] for first in range(0, len(plans), 8)]
    if num_processes == 1:
        results: Iterable[int] = (_render_part(part, config) for part in parts)
        pool = None
    else:
        pool = ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn"))
        results = pool.map(_render_part, parts, [config] * len(parts))
    done = 0
    try:
        for count in results:
            done += count
            if time.monotonic() - logged_s > _LOG_EVERY_S:
                logged_s = time.monotonic()
                rate = done / (logged_s - started_s)
                left_s = (len(plans) - done) / rate
                logger.info("%d of %d clips, %.0f s left", done, len(plans), left_s)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    elapsed_s = time.monotonic() - started_s
    logger.info("%d clips in %.0f s (%.1f clips/s)", done, elapsed_s, done / elapsed_s)


def _render_part(plans: list[ClipPlan], config: MotionCorpusConfig) -> int:
    with FigureRenderer(config.size_px, config.fps) as renderer:
        for plan in plans:
            frames = renderer.render(plan, config.num_frames)
            write_mp4(Path(config.directory) / plan.path, frames, config.fps)
    return len(plans)


def _caption_row(plan: ClipPlan) -> dict[str, object]:
    values = dataclasses.asdict(plan)
    order = ("split", "caption", "colour", "size", "speed", "start_s")
    view = ("azimuth_degrees", "elevation_degrees", "distance_m")
    return {
        "video": plan.path,
        "label": plan.motion,
        "label_id": plan.label,
        **{name: values[name] for name in (*order, *view)},
    }
