"""H.264, H.265 and AV1 as FFmpeg encodes them: one clip to packets and back, in memory.

One key frame per clip, one thread, slow presets: what the standards can do, not how fast. Colours
go through BT.709, limited range, 4:2:0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8

from pipeline.errors import PipelineError
from pipeline.evaluation.bitstream import Standard, picture_bytes
from pipeline.preview.video_files import Frames, as_bt709, check_frames, padded_to_even
from sweettok.errors import ShapeError

_FPS = 25  # says how long frames last; rate control by quality asks little of it
_ONE_KEY_FRAME = 10_000  # frames between key frames at least: more than any clip has


@dataclass(frozen=True)
class CodecRecipe:
    """How one standard is encoded and decoded.

    Attributes:
        encoder, decoder: Names in FFmpeg.
        options: The encoder's, besides quality and preset; "{unit_px}" is a coding unit's edge.
        default_preset: Slow enough to be near the best that the encoder can do.
        qualities: Values of `crf`, best picture first.
    """

    encoder: str
    decoder: str
    options: Mapping[str, str]
    default_preset: str
    qualities: tuple[float, ...]

    def options_for(self, height_px: int, width_px: int) -> dict[str, str]:
        """The options for frames of that size.

        With coding units of 64 px x265 gives several versions of equal frames of that size, and it
        takes no frame below one unit.
        """
        unit_px = 32 if min(height_px, width_px) >= 32 else 16
        return {name: value.format(unit_px=unit_px) for name, value in self.options.items()}


def _steps(first: float, last: float, step: float) -> tuple[float, ...]:
    return tuple(np.arange(first, last + step / 2, step).tolist())


RECIPES: Mapping[Standard, CodecRecipe] = MappingProxyType(
    {
        # Without its macroblock tree x264 gives equal bytes for equal frames.
        "h264": CodecRecipe(
            "libx264", "h264", {"x264-params": "mbtree=0:log=-1"}, "veryslow", _steps(1, 51, 0.5)
        ),
        "h265": CodecRecipe(
            "libx265",
            "hevc",
            {"x265-params": "info=0:log-level=none:pools=none:frame-threads=1:ctu={unit_px}"},
            "slow",
            _steps(1, 51, 0.5),
        ),
        "av1": CodecRecipe(
            "libsvtav1", "libdav1d", {"svtav1-params": "lp=1"}, "3", _steps(1, 63, 1)
        ),
    }
)


@dataclass(frozen=True, slots=True)
class CodedClip:
    """A clip as a codec's packets.

    Attributes:
        standard: What they are written in.
        packets: In the order of decoding, every header in its place.
        height_px, width_px: Size of the frames before they were padded to even sizes.
    """

    standard: Standard
    packets: tuple[bytes, ...]
    height_px: int
    width_px: int

    @property
    def picture_bits(self) -> int:
        """Bits of the coded pictures (see `pipeline.evaluation.bitstream`)."""
        return 8 * sum(picture_bytes(self.standard, packet) for packet in self.packets)

    @property
    def packet_bits(self) -> int:
        """Bits of the packets with all their headers."""
        return 8 * sum(map(len, self.packets))


def check_encoder(recipe: CodecRecipe) -> None:
    """Raises `PipelineError` if this build of FFmpeg lacks the encoder or the decoder."""
    for name, mode in ((recipe.encoder, "w"), (recipe.decoder, "r")):
        try:
            av.codec.Codec(name, mode)
        except (av.error.FFmpegError, ValueError) as error:
            raise PipelineError(
                f"FFmpeg in PyAV {av.__version__} has no {name}; install PyAV's own wheel "
                "(pip install --force-reinstall av) or leave that codec out"
            ) from error


def encode_clip(
    frames: Frames, standard: Standard, quality: float, preset: str | None = None
) -> CodedClip:
    """Encodes one clip.

    Args:
        frames: RGB in [0, 255].
        standard: Which standard.
        quality: The encoder's `crf`; more is a worse picture in fewer bits.
        preset: The encoder's; None takes a slow one.

    Raises:
        ShapeError: `frames` is no uint8 [time, height, width, 3] array, or the encoder takes no
            frames of this size.
    """
    check_frames(frames)
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes a page to stderr for every clip
    recipe = RECIPES[standard]
    padded = padded_to_even(frames)
    context = av.CodecContext.create(recipe.encoder, "w")
    context.height, context.width = padded.shape[1:3]
    context.pix_fmt, context.thread_count = "yuv420p", 1
    context.time_base, context.framerate = Fraction(1, _FPS), Fraction(_FPS)
    context.gop_size = _ONE_KEY_FRAME
    context.options = recipe.options_for(*padded.shape[1:3]) | {
        "crf": f"{quality:g}",
        "preset": preset or recipe.default_preset,
    }
    packets: list[bytes] = []
    try:
        with scheduling_kept():
            for number, image in enumerate(padded):
                frame = as_bt709(image)
                frame.pts = number
                packets += map(bytes, context.encode(frame))
            packets += map(bytes, context.encode(None))
    except av.error.FFmpegError as error:
        height_px, width_px = frames.shape[1:3]
        raise ShapeError(
            f"{recipe.encoder} does not encode frames of {height_px}×{width_px} px with "
            f"preset {context.options['preset']!r}: {error}"
        ) from error
    return CodedClip(standard, tuple(packets), *frames.shape[1:3])


def decode_clip(coded: CodedClip) -> UInt8[np.ndarray, "time height width 3"]:
    """The frames of a coded clip, RGB in [0, 255]."""
    context = av.CodecContext.create(RECIPES[coded.standard].decoder, "r")
    context.thread_count = 1
    frames = [frame for data in coded.packets for frame in context.decode(av.Packet(data))]
    frames += context.decode(None)
    shown = np.stack([_as_rgb(frame) for frame in frames])
    return shown[:, : coded.height_px, : coded.width_px]


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """Undoes what SVT-AV1 does to a process that may: real-time priority, left behind.

    Whatever such a process does or starts then starves everything else on the machine.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _as_rgb(frame: av.VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
    return frame.reformat(
        format="rgb24",
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        src_colorspace=Colorspace.ITU709,
    ).to_ndarray()
