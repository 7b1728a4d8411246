"""A folder of numbered frames, as many data sets store their videos.

Which files are frames, and in which order, is in `frame_names.py`. Numbers that are not there are
counted as missing frames; the frames that are there keep their own time, (number - first number) /
fps. All pictures must have one size, after the turn that their EXIF orientation asks for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame

from tubelet.decode.container import MAX_PIXELS, check_size, reason
from tubelet.decode.frame_names import DEMUXERS, numbered_files
from tubelet.decode.picture import Orientation, ToRGB, orientation
from tubelet.errors import UsageError, VideoError
from tubelet.types import DecodeEvents, Image, VideoInfo

UNUSED_CHUNKS = (b"iCCP", b"zTXt", b"iTXt", b"tEXt")


@dataclass(frozen=True, slots=True)
class PictureFrame:
    index: int
    time_s: float
    duration_s: float
    path: Path
    _reader: FramesReader

    def rgb(self) -> Image:
        return self._reader.picture(self.path)


class FramesReader:
    """types.VideoReader of a folder. A picture is read from disk when `rgb()` is called."""

    def __init__(
        self, path: str, *, fps: Fraction | float | str | None, pattern: str | None = None
    ) -> None:
        rate = rate_of(fps, where=path)
        self._files = numbered_files(Path(path), pattern)
        self.events = DecodeEvents()
        number, first = self._files[0]
        picture = _decode(first)
        upright = orientation(picture)
        self._size = upright.size(picture.width, picture.height)
        self._converters: dict[tuple[str, int, int, Orientation], ToRGB] = {}
        span = self._files[-1][0] - number + 1
        self.info = VideoInfo(
            path=path,
            width=self._size[0],
            height=self._size[1],
            fps=rate,
            frames=len(self._files),
            duration_s=float(span / rate),
            start_s=0.0,
            codec=first.suffix[1:].lower(),
            container="folder",
            pixel_format=picture.format.name,
            rotation=upright.angle if upright.exact else 0,
            backend="frames",
            size_bytes=sum(file.stat().st_size for _, file in self._files),
            notes=(f"{len(self._files)} of {span} numbers",) if span > len(self._files) else (),
        )

    def frames(self) -> Iterator[PictureFrame]:
        self.events = events = DecodeEvents()
        interval = 1 / self.info.fps
        first = self._files[0][0]
        for index, (number, path) in enumerate(self._files):
            after = self._files[index + 1][0] if index + 1 < len(self._files) else number + 1
            if after > number + 1:
                events.missing_frames += after - number - 1
                events.messages.append(f"no frames numbered {number + 1} to {after - 1}")
            yield PictureFrame(
                index,
                float((number - first) * interval),
                float((after - number) * interval),
                path,
                self,
            )

    def picture(self, path: Path) -> Image:
        """RGB [H, W, 3] of one file. VideoError for an unreadable one or another size."""
        decoded = _decode(path)
        upright = orientation(decoded)
        size = upright.size(decoded.width, decoded.height)
        if size != self._size:
            raise VideoError(
                f"{path}: {size[0]}x{size[1]}, but the first frame is "
                f"{self._size[0]}x{self._size[1]}; frames of one video must have one size"
            )
        kind = (decoded.format.name, int(decoded.colorspace), int(decoded.color_range), upright)
        if kind not in self._converters:
            self._converters[kind] = ToRGB(
                path=self.info.path, legacy601=False, upright=upright, first=decoded
            )
        return self._converters[kind](decoded)

    def close(self) -> None:
        """Nothing stays open between frames."""

    def __enter__(self) -> FramesReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def rate_of(fps: Fraction | float | str | None, *, where: str) -> Fraction:
    """Frames per second as a fraction. UsageError, which begins with `where`, for none."""
    if fps is None:
        raise UsageError(
            f"{where}: a folder of frames has no frame rate: say which (fps, --frames-fps)"
        )
    try:
        rate = Fraction(fps)
    except (ValueError, ZeroDivisionError, OverflowError):
        rate = Fraction(0)
    rate = rate.limit_denominator(1_000_000)
    if not 0 < rate <= 1_000_000:
        raise UsageError(
            f"{where}: fps {str(fps)[:60]!r} is not a positive number (of at most 1000000)"
        )
    return rate


def _decode(path: Path) -> VideoFrame:
    """One picture file -> one frame, in the picture's own pixel format."""
    limit: Any = {"max_pixels": str(MAX_PIXELS)}  # PyAV's stub says list[str]
    kind = DEMUXERS[path.suffix.lower()]
    try:
        file: Any = _plain_png(path) if kind == "png_pipe" else f"file:{path.absolute()}"
        with av.open(
            file,
            "r",
            format=kind,
            container_options={"protocol_whitelist": "file"},
            # Opening decodes the picture to learn its format, before the next line looks at it.
            stream_options=[limit],
        ) as container:
            assert isinstance(container, InputContainer)
            stream = container.streams.video[0]
            check_size(stream.width, stream.height, str(path))
            stream.codec_context.options = limit
            stream.thread_type, stream.thread_count = "NONE", 1
            frame = next(container.decode(stream))
    except (OSError, av.error.FFmpegError, StopIteration, IndexError) as error:
        raise VideoError(f"{path}: this frame cannot be read: {reason(error)}") from None
    if frame.is_corrupt:
        raise VideoError(f"{path}: this frame is damaged")
    return frame


def _plain_png(path: Path) -> BytesIO:
    """A PNG without its colour profile and texts, which change no pixel of ours.

    FFmpeg unpacks them before it looks at the picture, without a limit, and PyAV frees the name of
    a profile twice. UnsupportedVideo for a picture above the size limit.
    """
    data = path.read_bytes()
    if data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        check_size(width, height, str(path))
    kept, view, at = BytesIO(), memoryview(data), 8
    kept.write(view[:at])
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", view[at : at + 8])
        end = at + 12 + size  # length, kind, contents, checksum
        if kind not in UNUSED_CHUNKS:
            kept.write(view[at:end])
        at = end
    kept.seek(0)
    return kept
