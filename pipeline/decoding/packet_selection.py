"""Which packets need no decoding: what no frame asked for is made of.

Frames of a long stride, or of clips with gaps between them, need neither the groups of pictures
that hold none of them nor, in the groups that do, the frames on which no other depends.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from jaxtyping import Int64

from pipeline.decoding.seek_points import SeekPoints

# Codecs whose decoders in FFmpeg tell by each packet's own header that nothing refers to it.
_TELLING_CODECS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video"})


class PacketSelection:
    """The packets that the frames asked for are made of."""

    def __init__(
        self,
        timestamps: Int64[np.ndarray, " num_frames"],
        seek_points: SeekPoints,
        wanted: Int64[np.ndarray, " num_wanted"],
    ) -> None:
        """Plans the selection.

        Args:
            timestamps: Presentation timestamps of all displayed frames, strictly increasing.
            seek_points: Where decoding may begin anew.
            wanted: Display-order numbers of the frames that must come, increasing.
        """
        self._timestamps = timestamps
        self._wanted_pts = set(timestamps[wanted].tolist())
        points = seek_points.placed(timestamps)
        starts = np.concatenate([[0], points.positions - points.num_leading])
        ends = np.append(points.positions, len(timestamps))
        # A segment reaches from one point to the next; its leading frames are shown before it.
        first, last = np.searchsorted(wanted, starts), np.searchsorted(wanted, ends)
        self._is_needed: list[bool] = (last > first).tolist()
        self._first_numbers: list[int] = points.packet_numbers.tolist()

    def needs_segment_of(self, packet_number: int) -> bool:
        """Whether anything between the seek points around packet `packet_number` is needed."""
        return self._is_needed[bisect_right(self._first_numbers, packet_number)]

    def is_asked_for(self, pts: int | None) -> bool:
        """Whether the frame shown at `pts` is one of those that must come."""
        return pts in self._wanted_pts

    def position_of(self, pts: int, at_least: int) -> int:
        """Number of the frame shown at `pts`, in display order, if it is not below `at_least`."""
        return max(at_least, int(np.searchsorted(self._timestamps, pts)))


def select_packets(
    timestamps: Int64[np.ndarray, " num_frames"],
    seek_points: SeekPoints,
    wanted: Int64[np.ndarray, " num_wanted"],
    num_checked: int,
) -> PacketSelection | None:
    """The packets for the frames `wanted` and the first `num_checked`; None where all are needed.

    Every packet is also needed where two frames have the same time: numbers could not be told.
    """
    if len(wanted) == wanted[-1] - wanted[0] + 1 or (np.diff(timestamps) <= 0).any():
        return None
    checked = np.arange(min(num_checked, len(timestamps)))
    return PacketSelection(timestamps, seek_points, np.union1d(checked, wanted))


def chosen_packets(
    packets: Iterable[Packet],
    stream: VideoStream,
    first_number: int,
    selection: Callable[[], PacketSelection | None],
) -> Iterator[Packet | None]:
    """The packets to decode; None before one at which the decoder shall begin anew.

    Args:
        packets: All packets of `stream` from number `first_number` on.
        selection: What is selected, asked again for every packet; nothing selected means all.
    """
    context = stream.codec_context
    is_telling = context.codec.canonical_name in _TELLING_CODECS
    number = first_number
    is_leaving_out = False
    first_pts: int | None = None
    for packet in packets:
        current, own_number = selection(), number
        number += packet.size > 0 or packet.dts is not None
        if current is None:
            yield packet
            continue
        if not current.needs_segment_of(own_number):
            is_leaving_out = True
            continue
        if is_leaving_out:
            yield None
            is_leaving_out, first_pts = False, packet.pts
        # What is shown before the point may depend on packets that were left out.
        if first_pts is not None and packet.pts is not None and packet.pts < first_pts:
            continue
        if is_telling:
            is_asked_for = current.is_asked_for(packet.pts)
            context.skip_frame = "DEFAULT" if is_asked_for else "NONREF"
        yield packet
