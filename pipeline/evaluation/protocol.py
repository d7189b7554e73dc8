"""The protocol of an evaluation, part of its result: which clips of which videos, at which size.

Numbers of two papers compare only if all of this was alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pydantic

from pipeline.clips import ClipConfig
from pipeline.errors import SourceError
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import ListedVideo, WorkUnit, stable_id
from pipeline.sources import SourceConfig, list_videos
from sweettok.geometry import ClipGeometry
from sweettok.strict_config import StrictConfig

_NAME_PARTS = 2  # a video is known by its file and the folder that it lies in


class SplitConfig(StrictConfig):
    """Which part of a data set the videos are.

    Attributes:
        name: What the result calls it.
        list: Text file that names its videos, one a line, by the end of their path; what follows
            the first space of a line (a class number, say) is not read. Null takes every video
            of the source.
    """

    name: str = "all"
    list: str | None = None


class ProtocolConfig(StrictConfig):
    """Which clips are looked at, and at which size.

    Attributes:
        name: What the result calls it.
        split: Which of the videos.
        num_frames, height_px, width_px: Size of the clips.
        preprocess: Resize method and crop.
        clips: Which windows of a video may be clips: rate, stride, distance of their starts.
        clips_per_video: So many of these windows are drawn at random from each video; null takes
            all of them.
        max_clips: Videos are taken in a fixed random order until there are so many clips; null
            takes all videos.
        seed: Of both draws, which depend on nothing else but the names of file and folder.
    """

    name: str
    split: SplitConfig = SplitConfig()
    num_frames: int = pydantic.Field(ge=1)
    height_px: int = pydantic.Field(ge=1)
    width_px: int = pydantic.Field(ge=1)
    preprocess: PreprocessConfig = PreprocessConfig(interpolation="bicubic")
    clips: ClipConfig = ClipConfig()
    clips_per_video: int | None = pydantic.Field(default=None, ge=1)
    max_clips: int | None = pydantic.Field(default=None, ge=2)
    seed: int = 0

    @property
    def geometry(self) -> ClipGeometry:
        """The clips' size, without patches or tubes."""
        return ClipGeometry(
            num_frames=self.num_frames,
            height_px=self.height_px,
            width_px=self.width_px,
            patch_px=1,
            tube_frames=1,
        )

    def describe(self) -> str:
        """In one line, for people."""
        preprocess, clips = self.preprocess, self.clips
        rate = "own frame rate" if clips.target_fps is None else f"{clips.target_fps:g} fps"
        stride = "" if clips.frame_stride == 1 else f", every {clips.frame_stride}th frame"
        windows = (
            "all" if clips.max_clips_per_video is None else f"first {clips.max_clips_per_video}"
        )
        drawn = "" if self.clips_per_video is None else f"{self.clips_per_video} random of "
        hop = clips.hop_frames or self.num_frames
        return (
            f"{self.name}, split {self.split.name}; {self.num_frames}×{self.height_px}×"
            f"{self.width_px}, {preprocess.resize} + {preprocess.crop} crop, "
            f"{preprocess.interpolation}; {rate}{stride}, {drawn}{windows} windows of each "
            f"video, starts every {hop} frames, seed {self.seed}"
        )


def chosen_videos(source: SourceConfig, split: SplitConfig, seed: int) -> list[WorkUnit]:
    """The videos of a split, in the random order of the seed.

    Raises:
        SourceError: The list names no video of the source, or one that is not there.
    """
    videos: Iterable[ListedVideo] = list_videos(source)
    if split.list is not None:
        videos = _listed_only(list(videos), Path(split.list))
    units = [WorkUnit.from_listed(video) for video in videos]

    def place(unit: WorkUnit) -> tuple[str, str]:
        return stable_id("evaluated", seed, video_name(unit)), unit.uri

    return sorted(units, key=place)


def video_name(unit: WorkUnit) -> str:
    """Folder and file of a video: the same wherever the data set lies."""
    return "/".join(_parts(unit.uri)[-_NAME_PARTS:])


def _listed_only(videos: list[ListedVideo], path: Path) -> list[ListedVideo]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"split.list {path}: cannot be read ({error})") from error
    wanted = [PurePosixPath(line.split()[0]).parts for line in lines if line.strip()]
    by_end: dict[tuple[str, ...], ListedVideo] = {}
    for video in videos:
        parts = _parts(video.uri)
        by_end |= {parts[first:]: video for first in range(len(parts))}
    missing = ["/".join(parts) for parts in wanted if parts not in by_end]
    if missing or not wanted:
        some = ", ".join(missing[:3]) or "nothing at all"
        raise SourceError(
            f"split.list {path}: {len(missing)} of {len(wanted)} lines name no video of the source "
            f"({some}); give source.uris the folder that these paths begin in"
        )
    return list({by_end[parts].uri: by_end[parts] for parts in wanted}.values())


def _parts(uri: str) -> tuple[str, ...]:
    location = urlsplit(uri)
    return PurePosixPath(unquote(location.fragment or location.path)).parts
