"""A decoded AVFrame -> one RGB picture, upright."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from tubelet.types import Image

OFF_AXIS = math.tan(math.radians(1))
"""A display matrix within one degree of a right angle is taken as that angle."""


@dataclass(frozen=True)
class Orientation:
    """What the display matrix asks for: out[y', x'] = in[y, x], as transpose then flips.

    angle: degrees clockwise, of the matrix's x axis. exact: False for an angle that is no
    multiple of 90; then nothing is applied.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    angle: int = 0
    exact: bool = True

    @property
    def mirrored(self) -> bool:
        return self.transpose ^ self.flip_x ^ self.flip_y

    def size(self, width: int, height: int) -> tuple[int, int]:
        return (height, width) if self.transpose else (width, height)

    def apply(self, image: Image) -> Image:
        """[H, W, 3] -> [H', W', 3], contiguous."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        if self.flip_x:
            image = image[:, ::-1]
        if self.flip_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


def orientation(frame: VideoFrame) -> Orientation:
    """Read the display matrix of a frame.

    The matrix is nine int32 [a b u; c d v; x y w], a..d in 16.16 fixed point, and maps stored
    to shown coordinates: x' = a x + c y, y' = b x + d y, y pointing down (ISO 14496-12, 6.2.2).
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    angle = round(math.degrees(math.atan2(b, a))) % 360
    if abs(b) <= OFF_AXIS * abs(a) and abs(c) <= OFF_AXIS * abs(d) and a and d:
        return Orientation(flip_x=a < 0, flip_y=d < 0, angle=180 if a < 0 else 0)
    if abs(a) <= OFF_AXIS * abs(b) and abs(d) <= OFF_AXIS * abs(c) and b and c:
        return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0, angle=90 if b > 0 else 270)
    return Orientation(angle=angle, exact=False)


class ToRGB:
    """One reformatter for all frames of a video.

    BICUBIC is FFmpeg's own default: with it swscale gives what its command line gives, bit for
    bit (PyAV's default, BILINEAR, differs on 10-bit and odd sizes). Nothing is scaled unless
    the size changes within the video.
    """

    def __init__(self, *, legacy601: bool, upright: Orientation, size: tuple[int, int]) -> None:
        self._reformatter = VideoReformatter()
        self._legacy601 = legacy601
        self._upright = upright
        self._size = size

    def __call__(self, frame: VideoFrame) -> Image:
        width, height = self._size
        converted = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=Colorspace.ITU601 if self._legacy601 else None,
            src_color_range=ColorRange.MPEG if self._legacy601 else None,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        return self._upright.apply(np.asarray(converted.to_ndarray(), dtype=np.uint8))
