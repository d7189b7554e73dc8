"""How many bytes of a video codec's packets are pictures.

Counted are the coded slices (H.264, H.265) and the tile groups with their frame headers (AV1),
without start codes. Not counted is what is the same for every clip of one size, or can be left out:
parameter sets and sequence headers, delimiters, and messages such as the encoder's name. That is in
favour of the codecs: at a thousand bits per clip their headers alone would be more.

Source: ITU-T H.264 table 7-1 and annex B; H.265 table 7-1 and annex B; AV1 bitstream specification,
sections 5.3 and 6.2.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

Standard = Literal["h264", "h265", "av1"]

_START_CODE = re.compile(rb"\x00\x00\x01")
_H264_SLICES = range(1, 6)
_H265_SLICES = range(32)
_AV1_PICTURES = (3, 4, 6, 7)  # frame header, tile group, frame, redundant frame header


def picture_bytes(standard: Standard, packet: bytes) -> int:
    """Bytes of the coded pictures in one packet as the encoder gives it.

    Args:
        standard: What it is written in.
        packet: Annex B units (H.264, H.265) or open bitstream units with sizes (AV1).

    Raises:
        ValueError: A unit reaches beyond the packet.
    """
    return _COUNTERS[standard](packet)


def _h264_bytes(packet: bytes) -> int:
    return sum(len(unit) for unit in _annex_b_units(packet) if unit[0] & 31 in _H264_SLICES)


def _h265_bytes(packet: bytes) -> int:
    return sum(len(unit) for unit in _annex_b_units(packet) if unit[0] >> 1 & 63 in _H265_SLICES)


def _annex_b_units(packet: bytes) -> Iterator[bytes]:
    """The units between start codes; zeros before a start code belong to the code."""
    for unit in _START_CODE.split(packet)[1:]:
        trimmed = unit.rstrip(b"\x00")
        if trimmed:
            yield trimmed


def _av1_bytes(packet: bytes) -> int:
    counted = position = 0
    while position < len(packet):
        header = packet[position]
        has_extension, has_size = header >> 2 & 1, header >> 1 & 1
        start = position + 1 + has_extension
        size = len(packet) - start
        if has_size:
            size, start = _leb128(packet, start)
        if start + size > len(packet):
            raise ValueError(f"a unit of {size} bytes begins at {start} of {len(packet)}")
        if header >> 3 & 15 in _AV1_PICTURES:
            counted += start + size - position
        position = start + size
    return counted


def _leb128(packet: bytes, start: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and the position after it."""
    value = 0
    for index in range(8):
        if start + index >= len(packet):
            break
        byte = packet[start + index]
        value |= (byte & 127) << 7 * index
        if not byte & 128:
            return value, start + index + 1
    raise ValueError(f"no size of a unit at {start} of {len(packet)} bytes")


_COUNTERS: dict[str, Callable[[bytes], int]] = {
    "h264": _h264_bytes,
    "h265": _h265_bytes,
    "av1": _av1_bytes,
}
