"""Key frames from which decoding may begin, with the same pixels as from the start of the file.

A flag in the container is not enough: "key" packets of streams that refresh their picture bit by
bit show it whole only later, and some codecs carry decisions from the first packet of the file to
the last. What does not certainly start anew is decoded from the start.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from jaxtyping import Int64

# Every key frame of these forgets all that was before it. Left out on purpose: MPEG-4 part 2 and
# its relatives, whose decoders look at the first packet for the encoder and its known bugs.
_FORGETFUL_CODECS = frozenset(
    {"vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mjpeg", "prores", "dnxhd", "ffv1"}
)
# All-intra files have as many key frames as frames; nobody needs to start at each of them.
_MIN_DISTANCE_PACKETS = 8
NO_TIME = int(np.iinfo(np.int64).min)  # FFmpeg's own sign for a time that is not known
_FIELDS = 5
_LEADING_FIELD = 4

_H264_SLICE, _H264_IDR_SLICE, _H264_SEI = 1, 5, 6
_SEI_RECOVERY_POINT = 6
_HEVC_FIRST_IRAP, _HEVC_LAST_IRAP, _HEVC_NUM_SLICE_KINDS = 16, 23, 32


@dataclass(frozen=True, slots=True)
class SeekPoint:
    """One packet to begin with.

    Attributes:
        position: Display-order number of its frame.
        packet_number: How many packets of the stream come before it in the file.
        pts, dts: Its times in units of the stream's time base; dts is None if it has none.
        offset_bytes: Where it lies in the file.
    """

    position: int
    packet_number: int
    pts: int
    dts: int | None
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class PlacedPoints:
    """All points of a stream that belong to one displayed frame, in the order of the file.

    Attributes:
        packet_numbers: How many packets of the stream come before each.
        positions: Display-order numbers of their frames.
        num_leading: How many frames come after each in the file and are shown before it.
    """

    packet_numbers: Int64[np.ndarray, " num_points"]
    positions: Int64[np.ndarray, " num_points"]
    num_leading: Int64[np.ndarray, " num_points"]


class SeekPoints:
    """Gathers the points of a stream while its packets pass by, in the order of the file.

    Attributes:
        are_all_key_frames_clean: Whether each packet that calls itself a key frame is one.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._starts_anew = _test_of(stream)
        self._points = array("q")
        self._latest_pts = NO_TIME
        self._next_number = 0
        self.are_all_key_frames_clean = True

    def observe(self, packet: Packet, number: int) -> None:
        """Takes packet `number` (from 0) of the stream."""
        if packet.has_sidedata("new_extradata"):
            # The codec changes its parameters on the way: whoever jumps over this misses them.
            self._starts_anew = None
            del self._points[:]
        pts = packet.pts
        if packet.is_keyframe and self._starts_anew is not None:
            if not self._starts_anew(packet):
                self.are_all_key_frames_clean = False
            elif pts is not None and not packet.is_discard:
                self._add(number, pts, packet)
        if pts is not None:
            if self._points and pts < self._points[-_FIELDS + 1]:
                self._points[-_FIELDS + _LEADING_FIELD] += 1
            self._latest_pts = max(self._latest_pts, pts)

    def before(
        self, timestamps: Int64[np.ndarray, " num_frames"], position: int
    ) -> SeekPoint | None:
        """The last point whose frame is shown no later than frame `position`; None at the start.

        Args:
            timestamps: Presentation timestamps of all displayed frames, in display order.
            position: A display-order frame number.
        """
        points = self._rows()
        index = int(np.searchsorted(points[:, 1], timestamps[position], side="right")) - 1
        if index < 0:
            return None
        number, pts, dts, offset_bytes, _ = points[index].tolist()
        first, end = (int(np.searchsorted(timestamps, pts, side)) for side in ("left", "right"))
        if first == 0 or end - first != 1:
            return None
        return SeekPoint(first, number, pts, None if dts == NO_TIME else dts, offset_bytes)

    def placed(self, timestamps: Int64[np.ndarray, " num_frames"]) -> PlacedPoints:
        """All points but a first one at the start.

        Args:
            timestamps: As for `before`, strictly increasing.
        """
        rows = self._rows()
        positions = np.searchsorted(timestamps, rows[:, 1])
        is_shown = timestamps[positions.clip(max=len(timestamps) - 1)] == rows[:, 1]
        kept = is_shown & (positions > 0)
        return PlacedPoints(rows[kept, 0], positions[kept], rows[kept, _LEADING_FIELD])

    def _rows(self) -> Int64[np.ndarray, "num_points fields"]:
        return np.frombuffer(self._points, np.int64).reshape(-1, _FIELDS)

    def _add(self, number: int, pts: int, packet: Packet) -> None:
        """Keeps a point if everything before it in the file is also shown before it."""
        if pts > self._latest_pts and number >= self._next_number:
            dts = NO_TIME if packet.dts is None else packet.dts
            self._points.extend((number, pts, dts, packet.pos or 0, 0))
            self._next_number = number + _MIN_DISTANCE_PACKETS


def _test_of(stream: VideoStream) -> Callable[[Packet], bool] | None:
    """Tells whether a key packet starts anew; None if no packet of this codec certainly does."""
    codec = stream.codec_context.codec.canonical_name
    extradata = stream.codec_context.extradata or b""
    # Decoders treat lossless 4:4:4 by the encoder's version, which only the first frame tells.
    if codec == "h264" and "444" not in (stream.codec_context.pix_fmt or "444"):
        is_prefixed = extradata[:1] == b"\x01" and len(extradata) > 4
        length_bytes = (extradata[4] & 3) + 1 if is_prefixed else None
        return lambda packet: _h264_starts_anew(_nal_units(bytes(packet), length_bytes))
    if codec == "hevc":
        is_prefixed = extradata[:3] not in (b"\x00\x00\x00", b"\x00\x00\x01")
        length_bytes = (extradata[21] & 3) + 1 if is_prefixed and len(extradata) > 21 else None
        return lambda packet: _hevc_starts_anew(_nal_units(bytes(packet), length_bytes))
    return (lambda _: True) if codec in _FORGETFUL_CODECS else None


def _nal_units(content: bytes, length_bytes: int | None) -> Iterator[bytes]:
    """The units of a packet, told apart by their lengths (or by start codes, with None)."""
    if length_bytes is None:
        start = content.find(b"\x00\x00\x01")
        while start >= 0:
            end = content.find(b"\x00\x00\x01", start + 3)
            yield content[start + 3 : end if end >= 0 else len(content)]
            start = end
        return
    start = 0
    while start + length_bytes < len(content):
        size_bytes = int.from_bytes(content[start : start + length_bytes], "big")
        start += length_bytes
        yield content[start : start + size_bytes]
        start += size_bytes


def _h264_starts_anew(units: Iterator[bytes]) -> bool:
    """An IDR picture, or a recovery point that is exact at once."""
    for unit in units:
        kind = unit[0] & 0x1F if unit else 0
        if kind == _H264_IDR_SLICE:
            return True
        if kind == _H264_SEI and _is_exact_recovery_point(unit[1:]):
            return True
        if kind == _H264_SLICE:
            return False
    return False


def _is_exact_recovery_point(messages: bytes) -> bool:
    payload = messages.replace(b"\x00\x00\x03", b"\x00\x00")
    at = 0
    while at + 2 < len(payload):
        kind, at = _sei_number(payload, at)
        size_bytes, at = _sei_number(payload, at)
        if kind == _SEI_RECOVERY_POINT and at < len(payload):
            # The number of frames until recovery as an Exp-Golomb code (0 is a single 1), then
            # the promise that the frames will match exactly.
            return payload[at] >> 6 == 0b11
        at += size_bytes
    return False


def _sei_number(payload: bytes, at: int) -> tuple[int, int]:
    """A number in SEI's code, 255 meaning "and more", and where it ends."""
    number = 0
    while at < len(payload):
        number += payload[at]
        at += 1
        if payload[at - 1] != 0xFF:
            break
    return number, at


def _hevc_starts_anew(units: Iterator[bytes]) -> bool:
    for unit in units:
        kind = unit[0] >> 1 & 0x3F if unit else _HEVC_NUM_SLICE_KINDS
        if kind < _HEVC_NUM_SLICE_KINDS:
            return _HEVC_FIRST_IRAP <= kind <= _HEVC_LAST_IRAP
    return False
