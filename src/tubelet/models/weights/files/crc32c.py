"""CRC32C (Castagnoli) with NumPy.

The checksum is linear: that of a long text follows from those of its rows, each started from zero,
by moving the running state over a row of zeros and adding. So all rows advance together, a column
of bytes at a time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW = 512
Bytes = NDArray[np.uint8]
Words = NDArray[np.uint32]


@cache
def _table() -> Words:
    """What one byte does to the low byte of the state."""
    state = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        state = (state >> 1) ^ (state & 1) * np.uint32(0x82F63B78)
    return state.astype(np.uint32)


def _step(state: Words, byte: Any) -> Words:
    return (_table()[(state ^ byte) & 0xFF] ^ (state >> 8)).astype(np.uint32, copy=False)


@cache
def _over_zeros() -> Words:
    """[4, 256]: each byte of the state, moved over a row of zeros."""
    lanes = np.arange(256, dtype=np.uint32)[None] << np.array([[0], [8], [16], [24]], np.uint32)
    for _ in range(ROW):
        lanes = _step(lanes, 0)
    return lanes


def crc32c(data: Bytes) -> int:
    """The checksum of bytes, as in RFC 3720."""
    rows = len(data) // ROW
    states = np.zeros(rows, np.uint32)
    for column in np.ascontiguousarray(data[: rows * ROW].reshape(rows, ROW).T):
        states = _step(states, column)
    low, second, third, high = (list(map(int, table)) for table in _over_zeros())
    state = 0xFFFFFFFF
    for row in states.tolist():
        state = (
            low[state & 0xFF] ^ second[state >> 8 & 0xFF] ^ third[state >> 16 & 0xFF]
            ^ high[state >> 24] ^ row
        )  # fmt: skip
    table = _table()
    for byte in data[rows * ROW :].tolist():
        state = int(table[(state ^ byte) & 0xFF]) ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def masked_crc32c(data: Bytes) -> int:
    """As LevelDB and TensorFlow store it: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
