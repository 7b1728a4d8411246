"""A decoded AVFrame -> one RGB picture, upright."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import av.error
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from tubelet.errors import UnsupportedVideo
from tubelet.types import Box, Image

OFF_AXIS = math.tan(math.radians(1))
"""A display matrix within one degree of a right angle is taken as that angle."""


TRANSPOSE = {
    (False, False): "cclock_flip",
    (True, False): "clock",
    (False, True): "cclock",
    (True, True): "clock_flip",
}
"""(flip_x, flip_y) after a transpose -> the name of both together."""


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

    def filters(self) -> tuple[tuple[str, str], ...]:
        """FFmpeg's filters for it. It turns pictures before it converts them, which differs by a
        few levels where chroma is interpolated (10-bit video)."""
        if self.transpose:
            return (("transpose", TRANSPOSE[self.flip_x, self.flip_y]),)
        flips = (("hflip", self.flip_x), ("vflip", self.flip_y))
        return tuple((name, "") for name, wanted in flips if wanted)

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
    if not any((a, b, c, d)):  # some writers leave it empty
        return Orientation()
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

UNSPECIFIED = 2
"""Of a colour tag (H.273)."""

PROVABLE = 2**24
"""Pixels of a picture up to which a frame of noise is worth its memory."""


class Kind(NamedTuple):
    """What the conversion to RGB depends on, beside the samples."""

    width: int
    height: int
    format: str
    matrix: int
    span: int

    @classmethod
    def of(cls, frame: VideoFrame) -> Kind:
        matrix, span = int(frame.colorspace), int(frame.color_range)
        return cls(frame.width, frame.height, frame.format.name, matrix, span)


class Conversion:
    """A filter graph for frames of one kind, run in the caller's thread."""

    def __init__(self, kind: Kind, *steps: tuple[str, str]) -> None:
        graph = Graph()
        graph.threads = 1
        self._source = last = graph.add(
            "buffer",
            video_size=f"{kind.width}x{kind.height}",
            pix_fmt=kind.format,
            time_base="1/1",
            colorspace=str(kind.matrix),
            range=str(kind.span),
        )
        for name, options in steps:
            following = graph.add(name, options)
            last.link_to(following)
            last = following
        self._sink = graph.add("buffersink")
        last.link_to(self._sink)
        graph.configure()
        self._graph = graph  # the filters hold no reference to it

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        if not knows_tags(frame.color_trc, frame.color_primaries):
            frame.color_trc = frame.color_primaries = UNSPECIFIED
        return self.push_pull(frame)

    def push_pull(self, frame: VideoFrame) -> VideoFrame:
        """A frame whose tags swscale takes."""
        self._source.push(frame)
        converted = self._sink.pull()
        assert isinstance(converted, VideoFrame)
        return converted


@lru_cache(maxsize=64)
def knows_tags(transfer: int, primaries: int) -> bool:
    """Whether swscale takes frames with these tags. It refuses reserved and some unusual ones,
    although what it does here, YUV to RGB of the same kind, needs the matrix and the range only.
    """
    frame = VideoFrame(16, 16, "yuv420p")
    frame.colorspace, frame.color_range = UNSPECIFIED, 1
    convert = Conversion(Kind.of(frame), ("scale", "16:16"), ("format", "rgb24"))
    frame.color_trc, frame.color_primaries = transfer, primaries
    try:
        convert.push_pull(frame)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


class ToRGB:
    """FFmpeg's own conversion: frames go through its `scale` filter, as in its command line.

    Pictures are the same bit for bit, also where a plain swscale call (PyAV's `reformat`) is
    up to 85 levels off: 10-bit, odd sizes, left-sited chroma. `legacy601` decodes what PyAV
    16.1 and older gave, bit for bit: the 601 matrix and limited range whatever the tags say.
    Nothing is scaled unless the size changes within the video; then to the first size.
    size: (height, width) of the pictures.
    """

    def __init__(self, *, path: str, legacy601: bool, upright: Orientation, first: VideoFrame):
        self._path = path
        self._size = first.width, first.height
        width, height = upright.size(*self._size)
        self.size = height, width
        self._flags = AS_OLD_TOOLS if legacy601 else AS_FFMPEG
        self._upright = upright
        self._whole: tuple[Kind, Conversion] | None = None
        self._part: tuple[Kind, Box, Conversion | None] | None = None

    def __call__(self, frame: VideoFrame) -> Image:
        """Upright RGB [H, W, 3]. UnsupportedVideo for colours that swscale cannot read."""
        kind = Kind.of(frame)
        try:
            if self._whole is None or kind != self._whole[0]:
                height, width = self.size
                self._whole = kind, whole(kind, (width, height), self._flags, upright=self._upright)
            converted = self._whole[1](frame)
        except (av.error.FFmpegError, ValueError) as error:
            self._whole = None
            raise UnsupportedVideo(
                f"{self._path}: pictures in {frame.format.name} (colour space {kind.matrix}, range "
                f"{kind.span}) cannot be converted to RGB: {error}; re-encode the video"
            ) from None
        return np.ascontiguousarray(converted.to_ndarray(), dtype=np.uint8)

    def cut(self, frame: VideoFrame, box: Box) -> NDArray[np.uint8] | None:
        """`types.CuttableFrame.cut`: the box is cut out before it is converted.

        None where pixels would not be those of the whole picture, bit for bit (chroma is
        interpolated), or where the picture is scaled or turned.
        """
        if self._upright != Orientation() or (frame.width, frame.height) != self._size:
            return None
        kind = Kind.of(frame)
        if self._part is None or self._part[:2] != (kind, box):
            same = is_local(kind, box, self._flags)
            self._part = kind, box, part(kind, box, self._flags) if same else None
        convert = self._part[2]
        return None if convert is None else _rgb0(convert(frame))


def whole(
    kind: Kind, size: tuple[int, int], flags: str, *, upright: Orientation = Orientation()
) -> Conversion:
    """Turned upright, then to RGB, scaled where `size` (width, height, upright) differs."""
    scale = ("scale", f"{size[0]}:{size[1]}:{flags}")
    return Conversion(kind, *upright.filters(), scale, ("format", "rgb24"))


def part(kind: Kind, box: Box, flags: str) -> Conversion:
    """A box to RGB, four bytes a pixel."""
    width, height = box.right - box.left, box.bottom - box.top
    return Conversion(
        kind,
        ("crop", f"{width}:{height}:{box.left}:{box.top}:exact=1"),
        ("scale", f"{width}:{height}:{flags}"),
        ("format", "rgb0"),
    )


@lru_cache(maxsize=256)
def is_local(kind: Kind, box: Box, flags: str) -> bool:
    """Whether cutting and converting commute, found out on a frame of noise.

    They do where a pixel depends on its own samples only, as in most 8-bit video. Where FFmpeg
    interpolates chroma (10-bit video, odd heights) they do not.
    """
    if kind.width * kind.height > PROVABLE:
        return False
    try:
        frame = VideoFrame(kind.width, kind.height, kind.format)
        if any(component.bits != 8 for component in frame.format.components):
            return False
        frame.colorspace, frame.color_range = kind.matrix, kind.span
        rng = np.random.default_rng(0)
        for plane in frame.planes:
            plane.update(rng.bytes(plane.buffer_size))
        size = kind.width, kind.height
        picture = whole(kind, size, flags)(frame).to_ndarray()
        cut = _rgb0(part(kind, box, flags)(frame))
    except (av.error.FFmpegError, ValueError):  # the whole picture then tells what is wrong
        return False
    expected = picture[box.top : box.bottom, box.left : box.right]
    return np.array_equal(cut[:, : box.right - box.left, :3], expected)


def _rgb0(frame: VideoFrame) -> NDArray[np.uint8]:
    """The frame's own memory, which lives as long as the array: [H, padded W, 4]."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size // 4, 4)
