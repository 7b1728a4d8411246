"""How many frames a packet gives, read from its first bytes. Most give one; these do not:

VP8      show_frame 0: a frame that is only referred to                        RFC 6386, 9.1
VP9      the same, also as one of several in a superframe                      VP9, 6.2 and annex B
AV1      the same                                                              AV1, 5.9.2
MPEG-4   two coded pictures in one packet (XviD and DivX pack B-frames in AVI), then a
         placeholder of a few bytes that shows the second; a placeholder that follows no such
         packet is a picture "not coded", and shows nothing               ISO 14496-2, 6.2.5
"""

from __future__ import annotations

from collections.abc import Iterator

from av.packet import Packet
from av.video.stream import VideoStream

MPEG4_PLACEHOLDER = 8
"""Bytes; a coded picture has more."""

MPEG4_PICTURE = b"\x00\x00\x01\xb6"
"""Start code of a VOP."""

TEMPORAL_DELIMITER, SEQUENCE_HEADER, FRAME_HEADER, FRAME = 2, 1, 3, 6
"""Kinds of AV1's open bitstream units."""

LONGEST_SUPERFRAME = 8


class FrameCounter:
    """Feed it the packets of one stream in order."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._packed = 0

    def shown(self, packet: Packet[VideoStream]) -> int:
        """Frames that this packet adds to the video."""
        if self._codec == "mpeg4":
            return self._mpeg4(packet)
        if self._codec == "vp8":
            return bytes(memoryview(packet)[:1])[0] >> 4 & 1
        if self._codec == "vp9":
            return sum(_shows_vp9(frame) for frame in _superframe(memoryview(packet)))
        if self._codec == "av1":
            return _shown_av1(memoryview(packet))
        return 1

    def _mpeg4(self, packet: Packet[VideoStream]) -> int:
        if packet.size <= MPEG4_PLACEHOLDER:
            shown = min(self._packed, 1)
            self._packed -= shown
            return shown
        # What is packed with another picture is shown later, when a placeholder comes.
        before = 0 if packet.is_keyframe else self._packed
        self._packed = before + bytes(packet).count(MPEG4_PICTURE) - 1
        return 1


def _superframe(data: memoryview) -> Iterator[memoryview]:
    """The frames of a VP9 packet: an index at its end tells their sizes."""
    marker = data[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    length = 2 + count * width
    if marker >> 5 != 0b110 or len(data) < length or data[-length] != marker:
        yield data
        return
    at = 0
    for k in range(count):
        place = len(data) - length + 1 + k * width
        size = int.from_bytes(data[place : place + width], "little")
        if size:
            yield data[at : at + size]
        at += size


def _shows_vp9(frame: memoryview) -> bool:
    """frame_marker (2 bits), profile (2), a reserved bit in profile 3, show_existing_frame,
    frame_type, show_frame."""
    if not len(frame):
        return False
    bits = frame[0]
    skip = 5 if bits >> 4 & 3 == 3 else 4
    if bits >> (7 - skip) & 1:  # show_existing_frame
        return True
    return bool(bits >> (5 - skip) & 1)


def _shown_av1(data: memoryview) -> int:
    """show_existing_frame (1 bit), frame_type (2), show_frame (1) of every frame header."""
    shown = at = 0
    while at < len(data):
        header = data[at]
        at += 2 if header & 4 else 1
        size = len(data) - at
        if header & 2:
            size, at = _leb128(data, at)
        kind = header >> 3 & 15
        if kind in (FRAME_HEADER, FRAME) and at < len(data):
            shown += bool(data[at] & 0x80 or data[at] & 0x10)
        at += size
    return shown


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    """(number, place behind it)."""
    value = 0
    for k in range(min(8, len(data) - at)):
        value |= (data[at + k] & 0x7F) << 7 * k
        if not data[at + k] & 0x80:
            return value, at + k + 1
    return value, len(data)
