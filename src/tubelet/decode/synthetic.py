"""Numbered frames made on the spot, for tests and measurements: no file, no codec.

    synthetic:frames=100,fps=30,width=64,height=48,pattern=bits

pattern `bits` writes the frame's number as 5 x 4 black and white cells, most significant first,
which survives lossy coding; `flat` writes it into the colour (R + 256 G + 65536 B), which
survives resizing and cropping. `read_number` reads both back. stall=K: frame K never comes, as
from a decoder that hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tubelet.errors import EmptyVideo, UnknownName, UsageError, did_you_mean
from tubelet.types import DecodeEvents, Image, VideoInfo

PREFIX = "synthetic:"
COLUMNS, ROWS = 5, 4
BITS = COLUMNS * ROWS
PATTERNS = ("bits", "flat")
# fmt: off
DEFAULTS = {
    "frames": "100", "fps": "30", "width": "64", "height": "48", "pattern": "bits", "stall": "",
}
# fmt: on


def number_picture(number: int, *, width: int, height: int, pattern: str = "bits") -> Image:
    """The picture [height, width, 3] of a frame number below 2**20."""
    picture = np.zeros((height, width, 3), np.uint8)
    if pattern == "flat":
        picture[:] = (number & 255, number >> 8 & 255, number >> 16)
        return picture
    for bit, cell in enumerate(_cells(width, height)):
        if number >> (BITS - 1 - bit) & 1:
            picture[cell] = 255
    return picture


def read_number(picture: Image, *, pattern: str = "bits") -> int:
    """The number that a picture [H, W, 3] shows; lossy coding may have blurred it."""
    height, width = picture.shape[:2]
    if pattern == "flat":
        red, green, blue = (int(v) for v in np.median(picture.reshape(-1, 3), axis=0))
        return red | green << 8 | blue << 16
    number = 0
    for cell in _cells(width, height):
        number = number << 1 | int(picture[cell].mean() > 127.5)
    return number


def _cells(width: int, height: int) -> Iterator[tuple[slice, slice]]:
    for row in range(ROWS):
        for column in range(COLUMNS):
            yield (
                slice(row * height // ROWS, (row + 1) * height // ROWS),
                slice(column * width // COLUMNS, (column + 1) * width // COLUMNS),
            )


@dataclass(frozen=True, slots=True)
class SyntheticFrame:
    index: int
    time_s: float
    duration_s: float
    _size: tuple[int, int]
    _pattern: str

    def rgb(self) -> Image:
        width, height = self._size
        return number_picture(self.index, width=width, height=height, pattern=self._pattern)


class SyntheticReader:
    """types.VideoReader of a `synthetic:` description. UsageError for one that cannot be."""

    def __init__(self, description: str) -> None:
        options = _parse(description)
        self._frames = _whole(options, "frames", smallest=0)
        self._pattern = options["pattern"]
        width = _whole(options, "width", smallest=COLUMNS)
        height = _whole(options, "height", smallest=ROWS)
        self._stall = _whole(options, "stall", smallest=0) if options["stall"] else -1
        try:
            fps = Fraction(options["fps"])
        except (ValueError, ZeroDivisionError):
            fps = Fraction(0)
        if fps <= 0:
            raise UsageError(f"{description}: fps={options['fps']} is not a positive number")
        if self._pattern not in PATTERNS:
            raise UnknownName(f"{description}: pattern is one of {', '.join(PATTERNS)}")
        if self._frames == 0:
            raise EmptyVideo(f"{description}: no frames")
        if self._frames > 2**BITS:
            raise UsageError(f"{description}: at most {2**BITS} frames")
        self.events = DecodeEvents()
        self.info = VideoInfo(
            path=description,
            width=width,
            height=height,
            fps=fps,
            frames=self._frames,
            duration_s=float(self._frames / fps),
            start_s=0.0,
            codec="synthetic",
            container="synthetic",
            pixel_format="rgb24",
            rotation=0,
            backend="synthetic",
            size_bytes=0,
        )

    def frames(self) -> Iterator[SyntheticFrame]:
        interval = 1 / self.info.fps
        size = (self.info.width, self.info.height)
        for index in range(self._frames):
            if index == self._stall:
                threading.Event().wait()
            yield SyntheticFrame(
                index, float(index * interval), float(interval), size, self._pattern
            )

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> SyntheticReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _parse(description: str) -> dict[str, str]:
    options = dict(DEFAULTS)
    for item in filter(None, description.removeprefix(PREFIX).split(",")):
        key, _, value = item.partition("=")
        if key not in DEFAULTS:
            raise UnknownName(
                f"{description}: {key!r} is not one of {', '.join(DEFAULTS)}"
                + did_you_mean(key, DEFAULTS)
            )
        options[key] = value
    return options


def _whole(options: dict[str, str], key: str, *, smallest: int) -> int:
    value = options[key]
    if not value.isdecimal() or int(value) < smallest:
        raise UsageError(f"synthetic: {key}={value} is not a whole number of {smallest} or more")
    return int(value)
