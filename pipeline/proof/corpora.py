"""The two corpora of the comparison, decoded once and split into training and held-out clips.

* motion: the rendered corpus. Held out is its test part: other cameras, other colours.
* natural: a few real videos. Held out are the last part in time of every training video ("near":
  the same scene, later) and videos of their own ("far": another scene).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pydantic

from pipeline.clips import ClipConfig
from pipeline.errors import SourceError
from pipeline.motion_corpus.corpus import LabelledClip, MotionCorpusConfig, make_motion_corpus
from pipeline.motion_corpus.plans import SPLITS
from pipeline.preprocessing import PreprocessConfig
from pipeline.proof.clip_sets import ClipSet
from pipeline.records import WorkUnit, stable_id
from pipeline.sources import SourceConfig, list_videos
from pipeline.training.augmentation import AugmentationConfig, centre_views
from pipeline.training.clip_sampler import ClipSampler
from pipeline.training.data_config import CacheConfig, DataConfig
from pipeline.training.frame_cache import INDEX_FILE, FrameCache
from pipeline.training.frame_cache_building import ensure_frame_cache
from pipeline.training.frame_cache_writer import FrameCacheWriter, published
from pipeline.training.frame_recipe import FrameRecipe, frame_geometry
from pipeline.training.whole_frames import segment_spec
from sweettok.geometry import ClipGeometry
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

# Stated, not left to the default: stored frames and finished rows are found again by it.
_PREPROCESS = PreprocessConfig(interpolation="bicubic")
_NO_RAY_BYTES = 2**40  # these corpora are small: decoded in this process whatever their size


class NaturalVideoConfig(StrictConfig):
    """Natural video, split in time and by video.

    Attributes:
        train: Files or directories of the training videos.
        heldout: Files or directories of videos that are never trained on.
        tail_fraction: Share of every training video, at its end, that is held out.
        hop_frames: Frames between training clips' grid positions.
        heldout_hop_frames: Frames between the starts of held-out clips; below the clip's length
            they overlap.
    """

    train: tuple[str, ...] = ("data/samples/train",)
    heldout: tuple[str, ...] = ("data/samples/heldout",)
    tail_fraction: float = pydantic.Field(default=0.25, gt=0, lt=1)
    hop_frames: int = pydantic.Field(default=4, ge=1)
    heldout_hop_frames: int = pydantic.Field(default=4, ge=1)


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus ready to train and measure on; places and numbers, no pixels.

    Attributes:
        name: "motion" or "natural".
        training_cache: Directory of the frame cache of training frames.
        data: How training clips are cut and augmented.
        held_out: Held-out clips by the name of the part.
        labelled_training: Training clips with labels, unaugmented, for readers of tokens; None
            without labels.
        training_fingerprint: Hash of what it is trained on: pixels and how clips are cut.
        held_out_fingerprint: Hash of what it is measured on: pixels and clips.
    """

    name: str
    training_cache: str
    data: DataConfig
    held_out: dict[str, ClipSet]
    labelled_training: ClipSet | None
    training_fingerprint: str
    held_out_fingerprint: str

    def sampler(self, geometry: ClipGeometry, *, seed: int, batch_size: int) -> ClipSampler:
        """Augmented training batches, a pure function of seed and step."""
        cache = FrameCache.open(self.training_cache)
        return ClipSampler(cache, self.data, geometry, seed=seed, batch_size=batch_size)


def prepare_motion(
    config: MotionCorpusConfig, geometry: ClipGeometry, directory: Path
) -> PreparedCorpus:
    """Renders the motion corpus if need be and decodes both parts.

    Every video gives two held-out clips, its beginning and its end.

    Raises:
        SourceError: The corpus cannot be made (no pybullet), or its clips are too short.
    """
    if config.num_frames < geometry.num_frames:
        raise SourceError(
            f"the motion corpus has {config.num_frames} frames per clip, the tokenizer takes "
            f"{geometry.num_frames}; raise motion.num_frames"
        )
    labelled = make_motion_corpus(config)
    hop_frames = max(1, config.num_frames - geometry.num_frames)
    data = DataConfig(
        source=SourceConfig(uris=(f"{config.directory}/train",)),
        clips=ClipConfig(hop_frames=hop_frames),
        augmentation=AugmentationConfig(random_crop=False),
        preprocess=_PREPROCESS,
    )
    recipe = FrameRecipe.for_evaluation(data, geometry)
    caches = {
        split: _cache(
            [str(clip.path) for clip in labelled if clip.split == split], recipe, data, directory
        )
        for split in SPLITS
    }
    starts = tuple(dict.fromkeys((0, config.num_frames - geometry.num_frames)))
    held_out = _labelled_set(caches["test"], geometry, labelled, starts)
    training = _labelled_set(caches["train"], geometry, labelled, (starts[-1] // 2,))
    return PreparedCorpus(
        name="motion",
        training_cache=caches["train"],
        data=data,
        held_out={"test": held_out},
        labelled_training=training,
        training_fingerprint=_training_fingerprint(caches["train"], data),
        held_out_fingerprint=_held_out_fingerprint({"test": held_out, "labelled": training}),
    )


def prepare_natural(
    config: NaturalVideoConfig, geometry: ClipGeometry, directory: Path
) -> PreparedCorpus:
    """Decodes the videos and splits them.

    Raises:
        SourceError: There is no video, or a part is too short for a clip.
    """
    data = DataConfig(
        source=SourceConfig(uris=config.train),
        clips=ClipConfig(hop_frames=config.hop_frames),
        preprocess=_PREPROCESS,
    )
    with_margin = FrameRecipe.for_training(data, geometry)
    as_tokenized = FrameRecipe.for_evaluation(data, geometry)
    whole = _cache(config.train, with_margin, data, directory)
    training = _beginnings(whole, config.tail_fraction, directory)
    later = _cache(config.train, as_tokenized, data, directory)
    others = _cache(config.heldout, as_tokenized, data, directory)
    hop_frames, tail = config.heldout_hop_frames, config.tail_fraction
    held_out = {
        "near": _clips_after(later, geometry, hop_frames, tail_fraction=tail),
        "far": _clips_after(others, geometry, hop_frames, tail_fraction=1.0),
    }
    for name, clips in held_out.items():
        if not len(clips):
            raise SourceError(
                f"natural video, part {name!r}: no clip of {geometry.num_frames} frames; give "
                "longer videos or a larger natural.tail_fraction"
            )
    return PreparedCorpus(
        name="natural",
        training_cache=training,
        data=data,
        held_out=held_out,
        labelled_training=None,
        training_fingerprint=_training_fingerprint(training, data),
        held_out_fingerprint=_held_out_fingerprint(held_out),
    )


def _cache(uris: Sequence[str], recipe: FrameRecipe, data: DataConfig, directory: Path) -> str:
    """The directory of the frame cache of `uris`, made now if it is not there."""
    source = SourceConfig(uris=tuple(uris))
    units = [WorkUnit.from_listed(video) for video in list_videos(source)]
    spec = segment_spec(recipe, data.decode, source.storage)
    config = CacheConfig(directory=str(directory))
    uri, index = ensure_frame_cache(units, recipe, spec, config, small_set_bytes=_NO_RAY_BYTES)
    if not index.videos:
        raise SourceError(f"none of the {len(units)} videos of {uris[0]}, … can be decoded")
    return uri


def _beginnings(whole: str, tail_fraction: float, directory: Path) -> str:
    """A cache of the frames of `whole` before each video's held-out end."""
    source = FrameCache.open(whole)
    key = stable_id("beginnings", Path(whole).name, tail_fraction)[:16]
    target = (directory / key).absolute()
    if (target / INDEX_FILE).exists():
        return str(target)
    with published(target) as partial:
        writer = FrameCacheWriter(partial, source.index.recipe)
        for number, video in enumerate(source.videos):
            cut = _first_held_out(video.num_frames, tail_fraction)
            one = np.array([number], np.int64)
            size = frame_geometry(cut, video.height_px, video.width_px)
            views = centre_views(source.stored_clips(one, np.zeros_like(one)), size)
            shape = (cut, video.height_px, video.width_px)
            (frames,) = source.read_clips(one, views, shape)
            unit = WorkUnit(video.video_id, video.uri, video.fingerprint, 0, video.attributes)
            writer.add_video(unit, frames, video.fps)
        writer.close()
    return str(target)


def _first_held_out(num_frames: int, tail_fraction: float) -> int:
    return num_frames - round(num_frames * tail_fraction)


def _clips_after(
    directory: str, geometry: ClipGeometry, hop_frames: int, *, tail_fraction: float
) -> ClipSet:
    """Clips within the last `tail_fraction` of every video of a cache."""
    videos: list[int] = []
    starts: list[int] = []
    for number, video in enumerate(FrameCache.open(directory).videos):
        first = _first_held_out(video.num_frames, tail_fraction)
        found = range(first, video.num_frames - geometry.num_frames + 1, hop_frames)
        videos += [number] * len(found)
        starts += found
    return ClipSet(directory, geometry, tuple(videos), tuple(starts))


def _labelled_set(
    directory: str,
    geometry: ClipGeometry,
    labelled: Sequence[LabelledClip],
    starts: tuple[int, ...],
) -> ClipSet:
    """Clips of every video of a cache at the same starts, with the corpus's labels."""
    labels = {f"{clip.split}/{clip.path.name}": clip.label for clip in labelled}
    videos = FrameCache.open(directory).videos
    names = ["/".join(PurePosixPath(video.uri).parts[-2:]) for video in videos]
    return ClipSet(
        directory,
        geometry,
        videos=tuple(number for number in range(len(videos)) for _ in starts),
        starts=starts * len(videos),
        labels=tuple(labels[name] for name in names for _ in starts),
    )


def _training_fingerprint(cache: str, data: DataConfig) -> str:
    pixels = FrameCache.open(cache).index.fingerprint
    cutting = (data.clips.to_yaml(), data.augmentation.to_yaml())
    return stable_id("proof training clips", pixels, *cutting)[:32]


def _held_out_fingerprint(parts: dict[str, ClipSet]) -> str:
    found = [
        (name, FrameCache.open(part.cache).index.fingerprint, part.videos, part.starts, part.labels)
        for name, part in parts.items()
    ]
    return stable_id("proof held-out clips", *map(repr, found))[:32]
