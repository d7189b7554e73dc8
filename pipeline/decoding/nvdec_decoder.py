"""The optional decoder on a GPU: torchcodec over NVDEC, frames resized before they leave the GPU.

Its pixels differ by a level or two from those of the decoders on the CPU: the GPU converts colours
and resizes in its own arithmetic. Hence a name of its own in `decode.decoders`, and so in the
identity of a dataset.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipeline.decoding.interface import DecodeConfig
from pipeline.decoding.orientation import Orientation, square_pixel_width
from pipeline.decoding.pyav_decoder import first_orientation
from pipeline.decoding.scanned_decoder import undecodable
from pipeline.decoding.torchcodec_decoder import TorchCodecDecoder, load_torchcodec
from pipeline.errors import PipelineError
from pipeline.preprocessing import FramePreprocessor

_KERNELS = {"bicubic": "bicubic", "yuv_bicubic": "bicubic", "bilinear": "bilinear"}


class NvdecDecoder(TorchCodecDecoder):
    """Exact reading by frame number, in small batches, on the GPU that the process sees first."""

    name = "torchcodec_cuda"
    device = "cuda"

    def __init__(self, path: str, config: DecodeConfig) -> None:
        """Opens `path`; see `ScannedDecoder`.

        Raises:
            RecordError: Also for turned videos, which the GPU does not turn.
        """
        if first_orientation(path, config) not in (None, Orientation()):
            raise undecodable(f"{self.name} does not know turned or mirrored videos")
        super().__init__(path, config)

    def read_frames(
        self, indices: Iterable[int], preprocess: FramePreprocessor | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        for batch, frames in self._batches(indices):
            yield from zip(batch, self._shaped(frames.data, preprocess), strict=True)

    def _open_library(self) -> tuple[int, Any]:
        num_frames, first = super()._open_library()
        # torchcodec decodes on the CPU, unasked, what the GPU does not know.
        if self.device == "cuda" and self._reader.cpu_fallback:
            raise undecodable(f"{self.name}: {self._reader.cpu_fallback}")
        return num_frames, first

    def _shaped(
        self, frames: Any, preprocess: FramePreprocessor | None
    ) -> UInt8[np.ndarray, "num_frames height width 3"]:
        if preprocess is None:
            shown = [self._shown(frame) for frame in frames.cpu().numpy()]
            return np.stack(shown)
        square_width_px = square_pixel_width(frames.shape[2], self._scan.pixel_aspect)
        return resized_on_device(frames, preprocess, square_width_px).cpu().numpy()


def resized_on_device(frames: Any, preprocess: FramePreprocessor, square_width_px: int) -> Any:
    """Crops and resizes where the frames are, with torch's antialiased kernels.

    Args:
        frames: uint8 tensor [num_frames, height, width, 3] on any device.
        square_width_px: Width that `frames` would have with square pixels.

    Returns:
        uint8 tensor [num_frames, target height, target width, 3] on the same device.
    """
    height_px, width_px = frames.shape[1:3]
    left, top, right, bottom = preprocess.source_box(height_px, square_width_px)
    shrink = width_px / square_width_px
    kept = frames[:, round(top) : round(bottom), round(left * shrink) : round(right * shrink)]
    # By name: the decoding child of other decoders never loads torch.
    interpolate = importlib.import_module("torch.nn.functional").interpolate
    resized = interpolate(
        kept.permute(0, 3, 1, 2).float(),
        size=(preprocess.height_px, preprocess.width_px),
        mode=_KERNELS[preprocess.config.interpolation],
        antialias=True,
        align_corners=False,
    )
    return resized.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def check_nvdec() -> None:
    """Whether torchcodec and a GPU are there.

    Raises:
        PipelineError: One of them is missing.
    """
    load_torchcodec()
    if not importlib.import_module("torch").cuda.is_available():
        raise PipelineError(
            "decode.decoders names torchcodec_cuda, but this process sees no CUDA GPU; give it one "
            "(decode tasks without a GPU of their own see none), or take torchcodec_cuda out of "
            "decode.decoders"
        )
