"""Decodes whole frames, so that random crops have room.

The decode stage of tokenizing gives clips of one fixed size. Here a video is first asked for its
size, then cut at the size that keeps its own aspect ratio and still covers the crop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.clips import ALL_CLIPS, ClipConfig, ClipShare
from pipeline.decoding.cutting import CutClip, CutSettings, FileCutter, InProcessCutter
from pipeline.decoding.interface import DecodeConfig, DecoderName
from pipeline.decoding.isolation import IsolatedCutter
from pipeline.decoding.stage import DecodeStage
from pipeline.engine import DecodeSpec
from pipeline.errors import QuarantineReason, RecordError
from pipeline.records import ClipWindow
from pipeline.storage import StorageConfig
from pipeline.training.frame_recipe import FrameRecipe, covering_size, frame_geometry

_MAX_OPEN_CUTTERS = 4  # one decoding child each: corpora mix landscape and portrait


def clip_spec(
    recipe: FrameRecipe,
    clips: ClipConfig,
    num_frames: int,
    decode: DecodeConfig,
    storage: StorageConfig,
) -> DecodeSpec:
    """What a decode task needs to cut clips of `num_frames` frames of the stored size."""
    geometry = frame_geometry(num_frames, recipe.height_px, recipe.width_px)
    settings = CutSettings(decode, clips, recipe.preprocess, geometry)
    return (WholeFrameSpec if recipe.keep_aspect else DecodeSpec)(settings, storage)


def segment_spec(recipe: FrameRecipe, decode: DecodeConfig, storage: StorageConfig) -> DecodeSpec:
    """What a decode task needs to give all sampled frames of a video, each once, in order.

    The last segment repeats its last frame; its window says how often.
    """
    clips = ClipConfig(
        target_fps=recipe.target_fps, frame_stride=recipe.frame_stride, tail="pad", min_frames=1
    )
    return clip_spec(recipe, clips, recipe.segment_frames, decode, storage)


@dataclass(frozen=True)
class WholeFrameSpec(DecodeSpec):
    """A decode task's needs when clips keep the aspect ratio of their video.

    The geometry in `settings` is the size that is to be covered.
    """

    def stage(self) -> DecodeStage:
        """See `DecodeSpec.stage`."""
        parts = self.settings
        return WholeFrameStage(
            parts.decode, parts.clips, parts.preprocess, parts.geometry, self.storage
        )


class WholeFrameStage(DecodeStage):
    """The decode stage, giving clips of whole frames; every video has its own size."""

    def setup(self) -> None:
        """See `DecodeStage.setup`."""
        self._cutter = WholeFrameCutter(self.settings)


class WholeFrameCutter:
    """A `FileCutter` that covers the size of `settings` with whole frames."""

    def __init__(self, settings: CutSettings) -> None:
        self._settings = settings
        self._sizer = _new_cutter(_size_settings(settings))
        self._cutters: OrderedDict[tuple[int, int], FileCutter] = OrderedDict()
        self._last: tuple[str, tuple[int, int]] | None = None

    def cut(
        self,
        decoder_name: DecoderName,
        path: str,
        after: ClipWindow | None = None,
        share: ClipShare = ALL_CLIPS,
    ) -> Iterator[CutClip]:
        """See `FileCutter.cut`."""
        (first,) = self._sizer.cut(decoder_name, path)
        geometry = self._settings.geometry
        size = covering_size(
            (first.source.height_px, first.source.width_px),
            (geometry.height_px, geometry.width_px),
        )
        if after is not None and self._last != (path, size):
            raise RecordError(
                QuarantineReason.UNDECODABLE,
                "this decoder shows frames of another size than the one that cut the first clips",
            )
        self._last = (path, size)
        yield from self._cutter_for(size).cut(decoder_name, path, after, share)

    def close(self) -> None:
        """Ends all child processes; safe to call twice."""
        self._sizer.close()
        while self._cutters:
            self._cutters.popitem()[1].close()

    def _cutter_for(self, size: tuple[int, int]) -> FileCutter:
        if size not in self._cutters:
            if len(self._cutters) == _MAX_OPEN_CUTTERS:
                self._cutters.popitem(last=False)[1].close()
            parts = self._settings
            geometry = frame_geometry(parts.geometry.num_frames, *size)
            settings = CutSettings(parts.decode, parts.clips, parts.preprocess, geometry)
            self._cutters[size] = _new_cutter(settings)
        self._cutters.move_to_end(size)
        return self._cutters[size]


def _size_settings(settings: CutSettings) -> CutSettings:
    """Settings that decode one frame of a video, for what the decoder says beside it."""
    clips = ClipConfig(tail="pad", max_clips_per_video=1)
    return CutSettings(settings.decode, clips, settings.preprocess, frame_geometry(1, 8, 8))


def _new_cutter(settings: CutSettings) -> FileCutter:
    is_isolated = settings.decode.isolation == "process"
    return (IsolatedCutter if is_isolated else InProcessCutter)(settings)
