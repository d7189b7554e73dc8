"""A look at the corpus: one clip of each motion, as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipeline.motion_corpus.corpus import LabelledClip, MotionCorpusConfig, make_motion_corpus
from pipeline.motion_corpus.motions import MOTION_NAMES
from pipeline.preview.contact_sheet import ContactSheetRow, contact_sheet
from sweettok.strict_config import StrictConfig

_COLUMNS = 10
_SCALE = 0.5


class MotionCorpusJobConfig(StrictConfig):
    """The settings of `jobs/make_motion_corpus.py`.

    Attributes:
        corpus: The corpus.
        picture: PNG file with one test clip of each motion.
    """

    corpus: MotionCorpusConfig = MotionCorpusConfig()
    picture: str = "data/motion/sheet.png"


def make_corpus_with_sheet(config: MotionCorpusJobConfig) -> list[LabelledClip]:
    """Makes the corpus (or finds it made) and draws its sheet; returns all clips.

    Raises:
        SourceError: pybullet is not installed, or the directory holds another corpus.
    """
    clips = make_motion_corpus(config.corpus)
    picture = Path(config.picture)
    picture.parent.mkdir(parents=True, exist_ok=True)
    motion_sheet(clips).save(picture)
    return clips


def motion_sheet(clips: Sequence[LabelledClip]) -> Image.Image:
    """The first test clip of each motion (a training clip where there is none), one row each."""
    preferred = sorted(clips, key=lambda clip: clip.split)
    shown = {clip.motion: clip for clip in reversed(preferred)}
    rows = [
        ContactSheetRow(f"{name} · {shown[name].caption}", _all_frames(shown[name].path))
        for name in MOTION_NAMES
        if name in shown
    ]
    return contact_sheet(rows, num_columns=_COLUMNS, scale=_SCALE)


def _all_frames(path: Path) -> UInt8[np.ndarray, "t h w 3"]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
