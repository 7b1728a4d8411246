"""A decoded AVFrame -> one RGB picture, upright."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import av.error
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame

from tubelet.errors import UnsupportedVideo
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
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that PyAV has no name for
        return _turned(frame.rotation)
    if data is None:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    angle = round(math.degrees(math.atan2(b, a))) % 360
    if abs(b) <= OFF_AXIS * abs(a) and abs(c) <= OFF_AXIS * abs(d) and a and d:
        return Orientation(flip_x=a < 0, flip_y=d < 0, angle=180 if a < 0 else 0)
    if abs(a) <= OFF_AXIS * abs(b) and abs(d) <= OFF_AXIS * abs(c) and b and c:
        return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0, angle=90 if b > 0 else 270)
    return Orientation(angle=angle, exact=False)


def _turned(counterclockwise: int) -> Orientation:
    angle = -counterclockwise % 360
    if angle % 90:
        return Orientation(angle=angle, exact=False)
    return Orientation(
        transpose=angle in (90, 270),
        flip_x=angle in (90, 180),
        flip_y=angle in (180, 270),
        angle=angle,
    )


AS_FFMPEG = "flags=bicubic"
AS_OLD_TOOLS = "flags=bilinear:in_color_matrix=bt601:in_range=limited"


class ToRGB:
    """FFmpeg's own conversion: frames go through its `scale` filter, as in its command line.

    Pictures are the same bit for bit, also where a plain swscale call (PyAV's `reformat`) is
    up to 85 levels off: 10-bit, odd sizes, left-sited chroma. `legacy601` decodes what PyAV
    16.1 and older gave, bit for bit: the 601 matrix and limited range whatever the tags say.
    Nothing is scaled unless the size changes within the video; then to the first size.
    """

    def __init__(self, *, path: str, legacy601: bool, upright: Orientation, first: VideoFrame):
        self._path = path
        self._options = f"{first.width}:{first.height}:" + (
            AS_OLD_TOOLS if legacy601 else AS_FFMPEG
        )
        self._upright = upright
        self._kind: tuple[int | str, ...] = ()

    def __call__(self, frame: VideoFrame) -> Image:
        """Upright RGB [H, W, 3]. UnsupportedVideo for colours that swscale cannot read."""
        kind = (
            frame.width,
            frame.height,
            frame.format.name,
            int(frame.colorspace),
            int(frame.color_range),
        )
        try:
            if kind != self._kind:
                self._build(*kind)
                self._kind = kind
            self._source.push(frame)
            converted = self._sink.pull()
        except (av.error.FFmpegError, ValueError) as error:
            self._kind = ()
            raise UnsupportedVideo(
                f"{self._path}: pictures in {frame.format.name} (colour space {kind[3]}, range "
                f"{kind[4]}) cannot be converted to RGB: {error}; re-encode the video"
            ) from None
        assert isinstance(converted, VideoFrame)
        return self._upright.apply(np.asarray(converted.to_ndarray(), dtype=np.uint8))

    def _build(self, width: int, height: int, name: str, matrix: int, span: int) -> None:
        graph = Graph()
        graph.threads = 1
        self._source = graph.add(
            "buffer",
            video_size=f"{width}x{height}",
            pix_fmt=name,
            time_base="1/1",
            colorspace=str(matrix),
            range=str(span),
        )
        scale = graph.add("scale", self._options)
        rgb = graph.add("format", "rgb24")
        self._sink = graph.add("buffersink")
        self._source.link_to(scale)
        scale.link_to(rgb)
        rgb.link_to(self._sink)
        graph.configure()
        self._graph = graph  # the filters hold no reference to it
