"""The packets of a video stream: all of them, or from a seek point on."""

from __future__ import annotations

from collections.abc import Iterator

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.decoding.seek_points import SeekPoint


def demuxed(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """The packets of `stream` from where the container stands."""
    while True:
        try:
            yield from container.demux(stream)
        except IndexError:
            # PyAV does not know streams that appear on the way; they are none of ours.
            continue
        return


def packets_from(
    container: InputContainer, stream: VideoStream, point: SeekPoint
) -> Iterator[Packet] | None:
    """The packets of `stream` from `point` on, by the container's index; None if that fails."""
    target = point.pts if point.dts is None else point.dts
    try:
        container.seek(target, stream=stream, backward=True)
        packets = demuxed(container, stream)
        for packet in packets:
            if packet.pts == point.pts and (packet.pos or 0) == point.offset_bytes:
                return _with_first(packet, packets)
            # All that comes before the point in the file is shown before it.
            if packet.pts is None or packet.pts > point.pts:
                return None
    except av.error.FFmpegError:
        pass
    return None


def skipped_to(packets: Iterator[Packet], point: SeekPoint) -> Iterator[Packet]:
    """The packets from `point` on, for containers without a usable index: reads, but decodes not.

    Args:
        packets: All packets of the stream from the start of the file.
    """
    number = 0
    for packet in packets:
        if number >= point.packet_number:
            yield packet
        number += packet.size > 0 or packet.dts is not None


def _with_first(first: Packet, others: Iterator[Packet]) -> Iterator[Packet]:
    yield first
    yield from others
