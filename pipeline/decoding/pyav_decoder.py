"""The primary decoder: PyAV, read sequentially from the start or from a seek point.

The timeline comes from the packets' timestamps without decoding. What is shown is what a player
shows: packets outside an edit list are left out, times count from the first displayed frame
(whatever its own timestamp, a negative one included), and frames come in display order. Where
packets do not tell which frames will appear, reading notices the difference and fails, and
`PyAVTwoPassDecoder` decodes the file twice instead.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain, islice

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8

from pipeline.decoding.container_scan import (
    MADE_UP_CODECS,
    open_video,
    scan_packets,
    timeline_of,
)
from pipeline.decoding.frame_shaping import FrameShaper, orientation_of
from pipeline.decoding.interface import (
    DecodeConfig,
    DecodeError,
    FrameTimeline,
    VideoDecoder,
    check_file,
)
from pipeline.decoding.orientation import Orientation, square_pixel_width
from pipeline.decoding.packet_selection import PacketSelection, chosen_packets, select_packets
from pipeline.decoding.packets import demuxed, packets_from, skipped_to
from pipeline.decoding.seek_points import NO_TIME, SeekPoint
from pipeline.errors import QuarantineReason, RecordError
from pipeline.preprocessing import FramePreprocessor
from pipeline.records import VideoInfo

# Before jumping in a file, so many of its first frames are compared with what the packets
# announce: a file that misleads does so from its beginning.
_NUM_CHECKED_FRAMES = 32


class PyAVDecoder(VideoDecoder):
    """Times from the packets, then one decoding pass that checks every frame against them."""

    name = "pyav"

    def __init__(self, path: str, config: DecodeConfig) -> None:
        """Opens `path`, scans its packets and decodes its first frame.

        Raises:
            RecordError: The file's own fault, see `scan_packets`.
        """
        check_file(path, config)
        self._path = path
        self._config = config
        self._resources = ExitStack()
        self._selection: PacketSelection | None = None
        try:
            self._scan = scan_packets(path, config)
            self._timestamps: np.ndarray | None = None
            self._timeline = self._find_timeline()
            frames = self._open_frames()
            first = next(frames, None)
            if first is None:
                raise RecordError(QuarantineReason.UNDECODABLE, "not one frame can be decoded")
            self._info = self._describe(first)
            self._frames: Iterator[VideoFrame] | None = chain([first], frames)
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> VideoInfo:
        return self._info

    def timeline(self) -> FrameTimeline:
        return self._timeline

    def read_frames(
        self, indices: Iterable[int], preprocess: FramePreprocessor | None = None
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        numbers = np.fromiter(indices, np.int64)
        if not len(numbers):
            return
        shape = FrameShaper(self._scan.pixel_aspect, self._config, preprocess)
        if self._timestamps is not None:
            seek_points = self._scan.seek_points
            self._selection = select_packets(
                self._timestamps, seek_points, numbers, _NUM_CHECKED_FRAMES
            )
        wanted = iter(numbers.tolist())
        index = next(wanted)
        for position, frame in self._frames_before(index):
            if position > index:
                break
            if position == index:
                yield index, shape(frame, position)
                following = next(wanted, None)
                if following is None:
                    return
                index = following
        raise RecordError(
            QuarantineReason.UNDECODABLE,
            f"the decoder gave fewer frames than the {self._timeline.num_frames} of the "
            f"container; frame {index} is missing",
        )

    def close(self) -> None:
        self._frames = None
        self._resources.close()

    def _find_timeline(self) -> FrameTimeline:
        if self._scan.has_presentation_times:
            self._timestamps = self._scan.timestamps
        return self._scan.timeline()

    def _frames_before(self, index: int) -> Iterator[tuple[int, VideoFrame]]:
        """Display-order numbers and frames, beginning anywhere up to frame `index`."""
        frames, self._frames = self._frames or self._open_frames(), None
        if self._timestamps is None or index < _NUM_CHECKED_FRAMES:
            return self._numbered(frames)
        point = self._scan.seek_points.before(self._timestamps, index)
        if point is None or point.position < _NUM_CHECKED_FRAMES:
            return self._numbered(frames)
        for _ in self._numbered(islice(frames, _NUM_CHECKED_FRAMES)):
            pass
        for sought in (self._sought_frames(point), self._skipped_frames(point)):
            first = _first_at(sought, point.pts)
            if first is not None:
                return self._numbered(chain([first], sought), point.position)
        return self._numbered(self._open_frames())

    def _numbered(
        self, frames: Iterable[VideoFrame], first: int = 0
    ) -> Iterator[tuple[int, VideoFrame]]:
        """The frames with their display-order numbers, each compared with what is announced."""
        position = first
        for frame in frames:
            if self._selection is not None and frame.pts is not None:
                position = self._selection.position_of(frame.pts, position)
            self._check_timestamp(position, frame)
            yield position, frame
            position += 1

    def _open_frames(self) -> Iterator[VideoFrame]:
        container, stream = self._open()
        yield from self._decoded(demuxed(container, stream), stream)

    def _sought_frames(self, point: SeekPoint) -> Iterator[VideoFrame]:
        container, stream = self._open()
        packets = packets_from(container, stream, point)
        if packets is not None:
            yield from self._decoded(packets, stream, point.packet_number)

    def _skipped_frames(self, point: SeekPoint) -> Iterator[VideoFrame]:
        container, stream = self._open()
        packets = skipped_to(demuxed(container, stream), point)
        yield from self._decoded(packets, stream, point.packet_number)

    def _decoded(
        self, packets: Iterable[Packet], stream: VideoStream, first_number: int = 0
    ) -> Iterator[VideoFrame]:
        chosen = chosen_packets(packets, stream, first_number, lambda: self._selection)
        return decoded_frames(chosen, stream)

    def _open(self) -> tuple[InputContainer, VideoStream]:
        self._resources.close()
        return self._resources.enter_context(open_video(self._path, self._config))

    def _describe(self, first: VideoFrame) -> VideoInfo:
        """The facts of the video; only a decoded frame knows its rotation."""
        scan, timeline = self._scan, self._timeline
        width_px, height_px = orientation_of(first).shown_size(
            square_pixel_width(first.width, scan.pixel_aspect), first.height
        )
        return VideoInfo(
            width_px=width_px,
            height_px=height_px,
            fps=timeline.num_frames / timeline.end_s if timeline.end_s > 0 else 0.0,
            num_frames=timeline.num_frames,
            duration_s=timeline.end_s,
            codec=scan.codec,
            decoder=self.name,
        )

    def _check_timestamp(self, position: int, frame: VideoFrame) -> None:
        if self._timestamps is None or frame.pts is None:
            return
        if position >= len(self._timestamps) or frame.pts != self._timestamps[position]:
            raise RecordError(
                QuarantineReason.UNDECODABLE,
                f"decoded frame {position} is not the one that the packets announce",
            )


class PyAVTwoPassDecoder(PyAVDecoder):
    """Decodes once for the times and once for the pixels: slower, right where packets mislead.

    Needed for streams that begin inside a group of pictures, for hidden reference frames and for
    pictures split over packets.
    """

    name = "pyav_two_pass"

    def _find_timeline(self) -> FrameTimeline:
        scan = self._scan
        with open_video(self._path, self._config) as (container, stream):
            frames = decoded_frames(demuxed(container, stream), stream)
            stamps = array("q", (NO_TIME if frame.pts is None else frame.pts for frame in frames))
        if not stamps:
            raise RecordError(QuarantineReason.UNDECODABLE, "not one frame can be decoded")
        rate_fps = scan.average_rate_fps or Fraction(1)
        if NO_TIME in stamps or not scan.has_presentation_times:
            return timeline_of(np.arange(len(stamps)), 1 / rate_fps, 1, rate_fps)
        timestamps = np.maximum.accumulate(np.array(stamps))
        return timeline_of(timestamps, scan.time_base_s, scan.last_duration, rate_fps)


def first_orientation(path: str, config: DecodeConfig) -> Orientation | None:
    """How the first frame of a file is turned and mirrored; None if it cannot be decoded."""
    try:
        with open_video(path, config) as (container, stream):
            first = next(decoded_frames(demuxed(container, stream), stream), None)
            return None if first is None else orientation_of(first)
    except RecordError:
        return None


def decoded_frames(packets: Iterable[Packet | None], stream: VideoStream) -> Iterator[VideoFrame]:
    """All displayed frames of the packets of `stream`, in display order.

    Args:
        packets: None stands before a packet at which the decoder begins anew.

    Raises:
        RecordError: UNDECODABLE: the decoder refuses a packet.
    """
    num_packets = 0
    try:
        for packet in packets:
            if packet is None:
                yield from stream.codec_context.decode(None)
                stream.codec_context.flush_buffers()
                continue
            # Sent to the decoder, an empty packet would end the stream early.
            if packet.size > 0:
                num_packets += 1
                yield from stream.codec_context.decode(packet)
        yield from stream.codec_context.decode(None)
    except av.error.FFmpegError as error:
        raise DecodeError(
            QuarantineReason.UNDECODABLE,
            f"packet {num_packets} cannot be decoded: {error.strerror}",
            error_class=type(error).__name__,
            is_final=stream.codec_context.codec.canonical_name in MADE_UP_CODECS,
        ) from error


def _first_at(frames: Iterator[VideoFrame], pts: int) -> VideoFrame | None:
    """The frame shown at `pts`, those before it left out; None if it does not come."""
    try:
        for frame in frames:
            if frame.pts is None or frame.pts > pts:
                return None
            if frame.pts == pts:
                return frame
    except RecordError:
        pass
    return None
