"""Parts of a video file as files of their own, copied packet by packet, not encoded again."""

from __future__ import annotations

import io
import math

import av

from pipeline.errors import SourceError


def video_excerpt(content: bytes, begin_s: float, end_s: float, *, name: str) -> bytes:
    """The whole groups of pictures that begin within [begin_s, end_s), as an MP4 file.

    Excerpts that meet at a moment share no frame, and together they have all of them.

    Args:
        content: A video file.
        begin_s, end_s: Seconds from its beginning; `end_s` may be infinite.
        name: What it is called, for messages.

    Raises:
        SourceError: It is not a video, or none of its key frames lies there.
    """
    written = io.BytesIO()
    try:
        with av.open(io.BytesIO(content)) as source, av.open(written, "w", format="mp4") as target:
            num_packets = _copy(source, target, begin_s, end_s)
    except av.FFmpegError as error:
        raise SourceError(f"{name} cannot be cut: {error}") from error
    if not num_packets:
        end = "its end" if math.isinf(end_s) else f"{end_s:g} s"
        raise SourceError(f"{name} has no key frame between {begin_s:g} s and {end}")
    return written.getvalue()


def _copy(
    source: av.container.InputContainer,
    target: av.container.OutputContainer,
    begin_s: float,
    end_s: float,
) -> int:
    stream = source.streams.video[0]
    copy = target.add_stream_from_template(stream)
    num_packets, is_inside, offset = 0, False, 0
    for packet in source.demux(stream):
        if packet.dts is None or packet.pts is None or packet.time_base is None:
            continue  # the empty packet at the end
        if packet.is_keyframe:
            was_inside = is_inside
            is_inside = begin_s <= packet.pts * float(packet.time_base) < end_s
            if is_inside and not was_inside:
                offset = packet.dts
        if is_inside:
            packet.dts -= offset
            packet.pts -= offset
            packet.stream = copy
            target.mux(packet)
            num_packets += 1
    return num_packets
