"""What decides the pixels of a stored frame: its size, its resize and which frames of a video."""

from __future__ import annotations

from math import ceil

from pipeline.decoding.interface import DecoderName
from pipeline.preprocessing import PreprocessConfig
from pipeline.training.data_config import DataConfig
from sweettok.geometry import ClipGeometry
from sweettok.strict_config import StrictConfig

MAX_ASPECT = 3  # of a stored frame's long side to the crop's; beyond it the middle is kept
_MAX_SEGMENT_FRAMES = 32
_SEGMENT_BYTES = 16 * 2**20


class FrameRecipe(StrictConfig):
    """Everything that decides which pixels are stored of a video.

    Attributes:
        height_px, width_px: Size that a stored frame covers.
        keep_aspect: Store whole frames, of each video's own aspect ratio; otherwise exactly
            `height_px` × `width_px`, as for tokenizing.
        target_fps, frame_stride: Which frames, as in `ClipConfig`.
        preprocess: The resize.
        decoders: Decoder implementations, in the order in which they are tried.
    """

    height_px: int
    width_px: int
    keep_aspect: bool
    target_fps: float | None
    frame_stride: int
    preprocess: PreprocessConfig
    decoders: tuple[DecoderName, ...]

    @classmethod
    def for_training(cls, config: DataConfig, geometry: ClipGeometry) -> FrameRecipe:
        """Frames with room for the crops that the augmentation asks for."""
        augmentation = config.augmentation
        margin = augmentation.crop_margin if augmentation.random_crop else 1.0
        keep_aspect = augmentation.random_crop and config.preprocess.resize == "short_side"
        return cls._of(config, geometry, margin, keep_aspect)

    @classmethod
    def for_evaluation(cls, config: DataConfig, geometry: ClipGeometry) -> FrameRecipe:
        """Frames exactly as they are tokenized."""
        return cls._of(config, geometry, 1.0, False)

    @classmethod
    def _of(
        cls, config: DataConfig, geometry: ClipGeometry, margin: float, keep_aspect: bool
    ) -> FrameRecipe:
        return cls(
            height_px=ceil(geometry.height_px * margin),
            width_px=ceil(geometry.width_px * margin),
            keep_aspect=keep_aspect,
            target_fps=config.clips.target_fps,
            frame_stride=config.clips.frame_stride,
            preprocess=config.preprocess,
            decoders=config.decode.decoders,
        )

    def stored_fps(self, source_fps: float) -> float:
        """Rate of the stored frames of a video of `source_fps`, in frames per second."""
        return (self.target_fps or source_fps) / self.frame_stride

    @property
    def segment_frames(self) -> int:
        """Frames that travel together: about 16 MiB of pixels, at most 32."""
        frame_bytes = self.height_px * self.width_px * 3 * (2 if self.keep_aspect else 1)
        return min(_MAX_SEGMENT_FRAMES, max(1, _SEGMENT_BYTES // frame_bytes))


def covering_size(source: tuple[int, int], covered: tuple[int, int]) -> tuple[int, int]:
    """Height and width at which a frame of size `source` just covers `covered`, aspect kept.

    A long side beyond `MAX_ASPECT` times the covered one is cut down to it, around its middle.
    """
    scale = max(covered[0] / source[0], covered[1] / source[1])
    height_px, width_px = (
        min(max(least, round(edge * scale)), least * MAX_ASPECT)
        for edge, least in zip(source, covered, strict=True)
    )
    return height_px, width_px


def frame_geometry(num_frames: int, height_px: int, width_px: int) -> ClipGeometry:
    """A geometry for frames that no tokenizer takes as they are: any size fits."""
    return ClipGeometry(
        num_frames=num_frames, height_px=height_px, width_px=width_px, patch_px=1, tube_frames=1
    )
