"""What a container says of its video without decoding it: timestamps, completeness, faults."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream
from jaxtyping import Int64

from pipeline.decoding.interface import DecodeConfig, FrameTimeline, check_frame_size
from pipeline.decoding.limits import check_duration, check_num_frames, refuse_playlist
from pipeline.decoding.packets import demuxed
from pipeline.decoding.seek_points import NO_TIME, SeekPoints
from pipeline.errors import QuarantineReason, RecordError

# FFmpeg's log callback into Python can deadlock with decoding threads, and nobody reads it.
av.logging.set_level(None)

# Formats that open further files, or addresses, on the word of an untrusted text.
_PLAYLIST_FORMATS = frozenset({"hls", "concat", "dash", "imf", "webm_dash_manifest", "sdp"})
# Formats whose duration is written in the header rather than guessed from what is there.
_PROMISING_FORMATS = frozenset({"matroska", "webm", "flv"})
# Codecs that fill what they cannot decode with whatever the memory held, and call it a frame.
MADE_UP_CODECS = frozenset({"mjpeg"})
# More than the last frame must be missing: its own duration is often left unsaid.
_TOLERANCE_FRAMES = 1.5
# In units of any time base; beyond it seconds as floats could not tell frames apart.
_MAX_SPAN = 2**53
_GIF_TRAILER = b";"
_GIF_TAIL_BYTES = 16


@dataclass
class VideoScan:
    """What the container says of its video stream and of the packets that are shown.

    Attributes:
        stream_index: Number of the video stream in the container.
        codec: FFmpeg's name of the codec, such as "h264".
        width_px, height_px: Size as stored, before rotation and pixel aspect.
        pixel_aspect: Width of a pixel over its height; None if the container does not say.
        time_base_s: Unit of the timestamps, in seconds; one frame of the average rate where the
            container leaves times out.
        timestamps: Presentation timestamps in display order.
        last_duration: Duration of the packet shown last, in units; 0 if it does not say.
        average_rate_fps: The container's own frame rate, in frames per second, if it has one.
        has_presentation_times: Whether the timestamps are what decoded frames will carry; else
            only their number and their distances are right.
        num_packets: All packets, empty and hidden ones included.
        is_last_corrupt: Whether the last packet was cut.
        seek_points: Where decoding may begin other than at the start.
    """

    stream_index: int
    codec: str
    width_px: int
    height_px: int
    pixel_aspect: Fraction | None
    time_base_s: Fraction
    timestamps: Int64[np.ndarray, " num_frames"]
    last_duration: int
    average_rate_fps: Fraction | None
    has_presentation_times: bool
    num_packets: int
    is_last_corrupt: bool
    seek_points: SeekPoints

    @property
    def span(self) -> int:
        """From the first to the last displayed frame, in units of `time_base_s`."""
        return int(self.timestamps[-1]) - int(self.timestamps[0]) if len(self.timestamps) else 0

    def timeline(self) -> FrameTimeline:
        """The timestamps in seconds from the first displayed frame."""
        return timeline_of(
            self.timestamps, self.time_base_s, self.last_duration, self.average_rate_fps
        )


@contextmanager
def open_video(path: str, config: DecodeConfig) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens the container and chooses its video stream; nothing else is read from then on.

    Raises:
        RecordError: Not a container, cut before its index, no video, or no decoder for it.
    """
    refuse_playlist(path)
    try:
        container = av.open(
            path, mode="r", metadata_errors="replace", options={"protocol_whitelist": "file"}
        )
    except av.error.FFmpegError as error:
        raise _open_failure(path, error) from error
    with container:
        if _PLAYLIST_FORMATS & set(container.format.name.split(",")):
            raise RecordError(
                QuarantineReason.NOT_A_VIDEO, f"a {container.format.name} playlist, not a video"
            )
        stream = _video_stream(container)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        context = stream.codec_context
        context.thread_count = config.num_threads
        context.thread_type = "AUTO"
        context.options = {"max_pixels": str(config.max_pixels_per_frame)}
        if context.codec.canonical_name in MADE_UP_CODECS:
            context.options = {**context.options, "err_detect": "explode"}
        yield container, stream


def scan_packets(path: str, config: DecodeConfig) -> VideoScan:
    """Reads all packets once, decoding none.

    Raises:
        RecordError: As `open_video`; TOO_LARGE frames; TRUNCATED if the container promises more
            than is there.
    """
    with open_video(path, config) as (container, stream):
        check_frame_size(stream.width, stream.height, config)
        collected = _collect(container, stream, config)
        scan = collected.result(stream)
        _check_complete(container, stream, scan, os.stat(path).st_size)
        if scan.span <= _MAX_SPAN:  # else its timeline says that it is damaged
            check_duration(float(scan.span * scan.time_base_s), config)
        if container.format.name == "gif":
            _check_gif_trailer(path)
        return scan


def timeline_of(
    timestamps: Int64[np.ndarray, " num_frames"],
    time_base_s: Fraction,
    last_duration: int,
    average_rate_fps: Fraction | None,
) -> FrameTimeline:
    """Timestamps in units of `time_base_s` as seconds from the first one.

    Raises:
        RecordError: UNDECODABLE: they are further apart than any video is long.
    """
    if int(timestamps[-1]) - int(timestamps[0]) > _MAX_SPAN:
        raise RecordError(
            QuarantineReason.UNDECODABLE,
            f"the timestamps go from {timestamps[0]} to {timestamps[-1]}: they are damaged",
        )
    times_s = (timestamps - timestamps[0]) * float(time_base_s)
    if last_duration > 0:
        frame_s = last_duration * float(time_base_s)
    elif len(times_s) > 1 and times_s[-1] > 0:
        frame_s = float(np.median(np.diff(times_s)))
    else:
        frame_s = 1 / float(average_rate_fps) if average_rate_fps else 0.0
    return FrameTimeline(times_s, float(times_s[-1]) + frame_s)


@dataclass
class _Collected:
    """What the packets say, eight bytes per number: long videos have millions of packets."""

    is_avi: bool
    seek_points: SeekPoints
    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))
    num_packets: int = 0
    is_last_corrupt: bool = False

    def take(self, packet: Packet) -> None:
        self.seek_points.observe(packet, self.num_packets)
        self.num_packets += 1
        self.is_last_corrupt = packet.is_corrupt
        # An empty packet repeats the frame before; a discarded one lies outside the edit.
        if packet.size > 0 and not packet.is_discard:
            self.pts.append(NO_TIME if packet.pts is None else packet.pts)
            self.dts.append(NO_TIME if packet.dts is None else packet.dts)
            self.durations.append(packet.duration or 0)

    def result(self, stream: VideoStream) -> VideoScan:
        # AVI stores no presentation times, and FFmpeg's guess is wrong for reordered frames.
        is_complete = NO_TIME not in self.pts and not self.is_avi
        timestamps = np.array(self.pts if is_complete else self.dts, np.int64)
        rate_fps = stream.average_rate or stream.guessed_rate
        time_base_s = stream.time_base or Fraction(1)
        durations = np.array(self.durations)
        if NO_TIME in timestamps:
            timestamps, durations = np.arange(len(timestamps)), np.ones_like(durations)
            time_base_s = 1 / (rate_fps or Fraction(1))
        order = np.argsort(timestamps, kind="stable")
        return VideoScan(
            stream_index=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            width_px=stream.width,
            height_px=stream.height,
            pixel_aspect=stream.sample_aspect_ratio,
            time_base_s=time_base_s,
            timestamps=timestamps[order],
            last_duration=int(durations[order[-1]]) if len(order) else 0,
            average_rate_fps=rate_fps,
            has_presentation_times=is_complete,
            num_packets=self.num_packets,
            is_last_corrupt=self.is_last_corrupt,
            seek_points=self.seek_points,
        )


def _collect(container: InputContainer, stream: VideoStream, config: DecodeConfig) -> _Collected:
    is_avi = container.format.name == "avi"
    collected = _Collected(is_avi, SeekPoints(stream))
    try:
        for packet in demuxed(container, stream):
            if packet.size > 0 or packet.dts is not None:
                collected.take(packet)
                check_num_frames(len(collected.pts), config)
    except av.error.FFmpegError as error:
        raise RecordError(
            QuarantineReason.UNDECODABLE,
            f"the container is damaged after {collected.num_packets} packets: {error.strerror}",
        ) from error
    return collected


def _check_complete(
    container: InputContainer, stream: VideoStream, scan: VideoScan, size_bytes: int
) -> None:
    formats = set(container.format.name.split(","))
    num_frames = len(scan.timestamps)
    index_end_bytes = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    if index_end_bytes > size_bytes:
        raise _truncated(f"its index reaches {index_end_bytes} bytes, the file has {size_bytes}")
    if scan.is_last_corrupt:
        raise _truncated(f"packet {scan.num_packets} is cut")
    if "avi" in formats and scan.num_packets + 1 < stream.frames:
        raise _truncated(f"{scan.num_packets} of {stream.frames} promised frames are there")
    promised_s = _promised_duration_s(container, stream) if formats & _PROMISING_FORMATS else None
    if num_frames == 0:
        if stream.frames or promised_s:
            raise _truncated("not one of the promised frames is there")
        raise RecordError(QuarantineReason.UNDECODABLE, "the video stream holds no frame")
    shown_s = scan.timeline().end_s
    # The header counts from the container's zero, also when the video begins later.
    end_s = shown_s + max(0.0, float(scan.timestamps[0] * scan.time_base_s))
    if promised_s is not None and end_s + _TOLERANCE_FRAMES * shown_s / num_frames < promised_s:
        raise _truncated(f"{end_s:.2f} of {promised_s:.2f} promised seconds are there")


def _check_gif_trailer(path: str) -> None:
    """A GIF promises neither frames nor duration, but ends with a semicolon (and seldom junk)."""
    with open(path, "rb") as file:
        file.seek(-_GIF_TAIL_BYTES, os.SEEK_END)
        if _GIF_TRAILER not in file.read():
            raise _truncated("its trailer is missing")


def _promised_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """The duration of the video stream itself, where the container tells it apart from audio."""
    tag = stream.metadata.get("DURATION")
    if tag is not None:
        try:
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return None
    if len(container.streams) == 1 and container.duration is not None:
        return container.duration / av.time_base
    return None


def _video_stream(container: InputContainer) -> VideoStream:
    streams = [
        stream
        for stream in container.streams.video
        # The cover picture of a music file is a video stream of one frame.
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise RecordError(QuarantineReason.NO_VIDEO_STREAM, f"the container holds only: {kinds}")
    if streams[0].codec_context is None:
        raise RecordError(QuarantineReason.UNDECODABLE, "no decoder for the codec of the video")
    return streams[0]


def _open_failure(path: str, error: av.error.FFmpegError) -> RecordError:
    with open(path, "rb") as file:
        head = file.read(8)
    if head[4:8] == b"ftyp":
        return _truncated(f"an MP4 or QuickTime file cut before its index ({error.strerror})")
    if isinstance(error, av.error.InvalidDataError | av.error.EOFError):
        return RecordError(
            QuarantineReason.NOT_A_VIDEO, f"no known container format ({error.strerror})"
        )
    return RecordError(QuarantineReason.UNDECODABLE, f"cannot be opened: {error.strerror}")


def _truncated(detail: str) -> RecordError:
    return RecordError(QuarantineReason.TRUNCATED, f"the file is cut: {detail}")
