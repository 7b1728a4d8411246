"""RGB pictures as PNG, with the standard library."""

from __future__ import annotations

import struct
import zlib
from typing import IO

import numpy as np

from tubelet.types import Image


def write_png(file: IO[bytes], picture: Image) -> None:
    """An 8-bit RGB picture [H, W, 3]."""
    height, width, _ = picture.shape
    # Every line starts with the number of its filter: 0, none.
    lines = np.zeros((height, 1 + width * 3), np.uint8)
    lines[:, 1:] = picture.reshape(height, width * 3)
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    _chunk(file, b"IDAT", zlib.compress(lines.tobytes(), 4))
    _chunk(file, b"IEND", b"")


def _chunk(file: IO[bytes], kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data)
    file.write(struct.pack(">I", zlib.crc32(kind + data)))
