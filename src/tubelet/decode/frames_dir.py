"""A folder of numbered frames, as many data sets store their videos.

    img_00001.jpg  img_00002.jpg  ...       or  1.png  2.png ... 10.png, in the order of numbers

The number is the last group of digits of a name; everything around it must agree. Numbers that
are not there are counted as missing frames; the frames that are there keep their own time,
(number - first number) / fps. All pictures must have one size, after the turn that their EXIF
orientation asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import av.error
from av.video.frame import VideoFrame

from tubelet.decode.container import MAX_PIXELS, check_size, reason
from tubelet.decode.picture import Orientation, ToRGB, orientation
from tubelet.errors import EmptyVideo, NotAVideo, UsageError, VideoError
from tubelet.types import DecodeEvents, Image, VideoInfo

DEMUXERS = {
    ".jpg": "jpeg_pipe",
    ".jpeg": "jpeg_pipe",
    ".png": "png_pipe",
    ".webp": "webp_pipe",
    ".bmp": "bmp_pipe",
    ".ppm": "ppm_pipe",
    ".tif": "tiff_pipe",
    ".tiff": "tiff_pipe",
}
NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)


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

    def __init__(self, path: str, *, fps: Fraction | float | str | None) -> None:
        rate = _rate(path, fps)
        self._files = numbered_files(Path(path))
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


def numbered_files(folder: Path) -> list[tuple[int, Path]]:
    """(number, file) of every picture, by number. Raises for none, or for two ways of naming."""
    found: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    for file in folder.iterdir():
        if file.suffix.lower() not in DEMUXERS or file.name.startswith(".") or not file.is_file():
            continue
        match = NUMBERED.fullmatch(file.stem)
        if match is None:
            raise NotAVideo(f"{file}: a frame's name must hold its number, as in img_00001.jpg")
        before, number, after = match.groups()
        found.setdefault((before, after + file.suffix.lower()), []).append((int(number), file))
    if not found:
        kinds = ", ".join(DEMUXERS)
        raise EmptyVideo(f"{folder}: no frames in this folder (looked for {kinds})")
    if len(found) > 1:
        a, b, *_ = (f"{before}N{after}" for before, after in sorted(found))
        raise NotAVideo(f"{folder}: frames named in several ways ({a}, {b}): one video per folder")
    files = sorted(next(iter(found.values())))
    for (number, one), (same, other) in pairwise(files):
        if number == same:
            raise NotAVideo(f"{folder}: {one.name} and {other.name} have the same number")
    return files


def _rate(path: str, fps: Fraction | float | str | None) -> Fraction:
    if fps is None:
        raise UsageError(f"{path}: a folder of frames has no frame rate: say which (fps, --fps)")
    try:
        rate = Fraction(fps)
    except (ValueError, ZeroDivisionError, OverflowError):
        rate = Fraction(0)
    if rate <= 0:
        raise UsageError(f"{path}: fps {fps!r} is not a positive number")
    return rate.limit_denominator(1_000_000)


def _decode(path: Path) -> VideoFrame:
    """One picture file -> one frame, in the picture's own pixel format."""
    try:
        with av.open(
            f"file:{path.absolute()}",
            format=DEMUXERS[path.suffix.lower()],
            container_options={"protocol_whitelist": "file"},
        ) as container:
            stream = container.streams.video[0]
            check_size(stream.width, stream.height, str(path))
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            stream.thread_type, stream.thread_count = "NONE", 1
            frame = next(container.decode(stream))
    except (OSError, av.error.FFmpegError, StopIteration, IndexError) as error:
        raise VideoError(f"{path}: this frame cannot be read: {reason(error)}") from None
    if frame.is_corrupt:
        raise VideoError(f"{path}: this frame is damaged")
    return frame
