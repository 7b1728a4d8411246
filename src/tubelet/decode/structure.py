"""Whether bytes of a container are lost, seen from its structure alone.

FFmpeg's demuxers of Matroska and MPEG streams skip what they cannot read to the next place that
they understand, without a word to their caller. A hole in the clock may be a pause of the recorder
as well; a hole and a broken structure are evidence.

Matroska, WebM    elements that do not follow each other          RFC 8794 (EBML), RFC 9559
MPEG-TS           packets without sync byte, a continuity counter that jumps, a PES packet that
                  does not begin with its start code              ISO 13818-1, 2.4.3
"""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
VOID, CHECKSUM = 0xEC, 0xBF
IN_SEGMENT = {
    CLUSTER,
    0x114D9B74,  # SeekHead
    0x1549A966,  # Info
    0x1654AE6B,  # Tracks
    0x1C53BB6B,  # Cues
    0x1043A770,  # Chapters
    0x1941A469,  # Attachments
    0x1254C367,  # Tags
    VOID,
    CHECKSUM,
}
IN_CLUSTER = {
    0xE7,  # Timestamp
    0x5854,  # SilentTracks
    0xA7,  # Position
    0xAB,  # PrevSize
    0xA3,  # SimpleBlock
    0xA0,  # BlockGroup
    0xAF,  # EncryptedBlock
    VOID,
    CHECKSUM,
}


def is_broken_matroska(path: str) -> bool:
    """Whether some element is not where the one before it ends. A file that is cut off is not
    broken by that alone. Reads a few bytes per block."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while file.tell() < size:
            known = {EBML, SEGMENT, VOID, CHECKSUM, *IN_SEGMENT, *IN_CLUSTER}
            element, length = _number(file, keep_marker=True), _number(file)
            if element not in known or length is None:
                return element is not None and file.tell() < size
            # Its children follow one by one, as do those of elements without a size.
            if element not in (SEGMENT, CLUSTER) and length >= 0:
                file.seek(length, os.SEEK_CUR)
    return False


def _number(file: BinaryIO, *, keep_marker: bool = False) -> int | None:
    """A variable-length number; -1 for one of all ones ("unknown"), None where there is none."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    data = first + file.read(length - 1)
    value = int.from_bytes(data, "big")
    if keep_marker:
        return value
    value &= (1 << 7 * length) - 1
    return -1 if value == (1 << 7 * length) - 1 else value


SYNC, PACKET = 0x47, 188
BLOCK = 20_000
"""Packets that are looked at in one go: 4 MB."""


def is_broken_transport_stream(path: str, pid: int) -> bool:
    """Whether a packet of this PID is lost or spoiled. Reads the whole file, in blocks."""
    last = -1
    with open(path, "rb") as file:
        # M2TS puts four bytes of a clock before each packet.
        head = file.read(2 * (PACKET + 4))
        lead = 0 if head[:1] == bytes([SYNC]) else 4
        size = PACKET + lead
        file.seek(0)
        while data := file.read(BLOCK * size):
            whole = len(data) // size * size
            packets = np.frombuffer(data[:whole], np.uint8).reshape(-1, size)[:, lead:]
            if (packets[:, 0] != SYNC).any():
                return True
            own = packets[(packets[:, 1] & 0x1F).astype(int) << 8 | packets[:, 2] == pid]
            counters = own[own[:, 3] & 0x10 != 0][:, 3] & 0x0F
            steps = np.diff(counters.astype(int), prepend=last if last >= 0 else counters[:1])
            # A packet may be sent twice. The first of the file has none before it.
            if not np.isin(steps[0 if last >= 0 else 1 :] % 16, (0, 1)).all() or _spoiled(own):
                return True
            last = int(counters[-1]) if len(counters) else last
    return False


def _spoiled(packets: NDArray[np.uint8]) -> bool:
    """Whether one that begins a PES packet lacks the start code."""
    for packet in packets[packets[:, 1] & 0x40 != 0]:
        at = 5 + int(packet[4]) if packet[3] & 0x20 else 4
        if bytes(packet[at : at + 3]) != b"\x00\x00\x01":
            return True
    return False
