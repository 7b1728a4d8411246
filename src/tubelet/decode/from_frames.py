"""Frames that are in memory already, as a video: `tubelet.from_frames(frames, fps=25)`.

For what another decoder, a simulator, a camera or a notebook made. The reader obeys the same
protocol as those of files, so whatever takes a path takes it too, and rows equal those of a file
with these pictures and times.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any, Literal

import numpy as np

from tubelet.decode.container import check_size
from tubelet.decode.frames_dir import rate_of
from tubelet.errors import EmptyVideo, UsageError, VideoError
from tubelet.types import DecodeEvents, Image, VideoInfo

Channels = Literal["auto", "first", "last"]

WAY_OUT = (
    "frames are uint8 pictures: an array [T, H, W, 3], a tensor [T, 3, H, W], PIL images, or an "
    "iterable of such pictures"
)
NAME = "frames in memory"


@dataclass(frozen=True, slots=True)
class MemoryFrame:
    index: int
    time_s: float
    duration_s: float
    _image: Image

    def rgb(self) -> Image:
        return self._image.copy()


def from_frames(
    frames: Any,
    *,
    fps: Fraction | float | str | None = None,
    times: Sequence[float] | None = None,
    channels: Channels = "auto",
) -> MemoryReader:
    """A video of frames in memory, for `extract`, `Extractor` and whatever takes a VideoReader.

    frames: uint8 RGB: numpy array or torch tensor [T, H, W, 3] or [T, 3, H, W]; or an iterable of
    pictures [H, W, 3], [3, H, W] or of PIL, all of one size. An iterator (a generator) is drawn as
    the video is read, once; anything else may be read again.
    fps, times: either the rate, or when each frame appears, in seconds, rising; the last frame is
    then shown as long as the one before it. channels: which axis is the colour, where both the
    first and the last of a picture have length 3.

    Raises UsageError for what is no picture, of another type than uint8, or without a clock;
    EmptyVideo for no frames. While frames are drawn: VideoError for a picture of another size.
    """
    return MemoryReader(frames, fps=fps, times=times, channels=channels)


class MemoryReader:
    """types.VideoReader of pictures in memory; see `from_frames`."""

    def __init__(
        self,
        frames: Any,
        *,
        fps: Fraction | float | str | None,
        times: Sequence[float] | None,
        channels: Channels,
    ) -> None:
        if channels not in ("auto", "first", "last"):
            raise UsageError(f"channels is {channels!r}; it must be auto, first or last")
        if (fps is None) == (times is None):
            raise UsageError("from_frames needs a clock: fps=25, or times=[...], and not both")
        self._channels: Channels = channels
        self._frames = _iterable(frames)
        count = len(self._frames) if isinstance(self._frames, Sequence) else None
        self._once: Iterator[Any] | None = None
        if count is None:
            self._once = iter(self._frames)
            self._first = next(self._once, None)
        else:
            self._first = self._frames[0] if count else None
        if self._first is None:
            raise EmptyVideo(f"{NAME}: there are none")
        self._times = None if times is None else _clock(times, count)
        self._interval = None if fps is None else 1 / rate_of(fps, where=NAME)
        self.events = DecodeEvents()
        height, width, _ = self._size = self._picture(self._first, 0).shape
        check_size(width, height, NAME)
        number = count if self._times is None else len(self._times)
        self.info = VideoInfo(
            path=NAME,
            width=width,
            height=height,
            fps=self._rate(),
            frames=number,
            duration_s=None if number is None else self._time(number),
            start_s=0.0,
            codec="rawvideo",
            container="memory",
            pixel_format="rgb24",
            rotation=0,
            backend="memory",
            size_bytes=(number or 0) * height * width * 3,
        )

    def _rate(self) -> Fraction:
        """Frames per second; of given times the average."""
        if self._interval is not None:
            return 1 / self._interval
        assert self._times is not None
        seconds = Fraction(self._time(len(self._times))) - Fraction(self._times[0])
        return (len(self._times) / seconds).limit_denominator(1_000_000)

    def _time(self, index: int) -> float:
        """When a frame appears; of the frame after the last, when that one ends."""
        if self._interval is not None:
            return float(index * self._interval)
        assert self._times is not None
        if index < len(self._times):
            return self._times[index]
        return 2 * self._times[-1] - self._times[-2]

    def frames(self) -> Iterator[MemoryFrame]:
        """Every frame. VideoError for the second pass over an iterator."""
        self.events = DecodeEvents()
        if isinstance(self._frames, Sequence):
            pictures = iter(self._frames)
        elif self._once is None:
            raise VideoError(
                f"{NAME}: they came from an iterator, which gives them once, and are read again; "
                "pass a list"
            )
        else:
            pictures, self._once = chain([self._first], self._once), None
            self._first = None
        limit = None if self._times is None else len(self._times)
        index = -1
        for index, picture in enumerate(pictures):
            if index == limit:
                raise VideoError(f"{NAME}: there are more than the {limit} times")
            start, end = self._time(index), self._time(index + 1)
            yield MemoryFrame(index, start, end - start, self._picture(picture, index))
        if limit is not None and index + 1 < limit:
            raise VideoError(f"{NAME}: {index + 1} frames came, and there are {limit} times")

    def _picture(self, picture: Any, index: int) -> Image:
        """RGB [H, W, 3], uint8; it may share memory with what was given."""
        image = _as_array(picture, index)
        if image.dtype != np.uint8:
            raise UsageError(
                f"frame {index} is of type {image.dtype}: {WAY_OUT}. For numbers in [0, 1]: "
                "(255 * frames).round().astype('uint8')"
            )
        image = _colour_last(image, index, self._channels)
        if index and image.shape != self._size:
            height, width = image.shape[:2]
            raise VideoError(
                f"{NAME}: frame {index} is {width}x{height}, but the first is "
                f"{self.info.width}x{self.info.height}; frames of one video must have one size"
            )
        return image

    def close(self) -> None:
        """The frames belong to the caller."""

    def __enter__(self) -> MemoryReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _iterable(frames: Any) -> Any:
    """A sequence, or an iterator. UsageError for what holds no frames."""
    if isinstance(frames, (str, bytes, os.PathLike)):
        raise UsageError(f"from_frames takes frames, not {frames!r}; for a file: open_video(path)")
    shape = getattr(frames, "shape", None)
    if shape is not None:
        if len(shape) != 4:
            raise UsageError(f"frames of shape {tuple(shape)}: {WAY_OUT}")
        return _Pictures(frames)
    if isinstance(frames, Sequence):
        return frames
    if isinstance(frames, Iterable) and not isinstance(frames, (dict, set, frozenset)):
        return frames
    raise UsageError(f"frames of type {type(frames).__name__}: {WAY_OUT}")


class _Pictures(Sequence[Any]):
    """The pictures of an array, one at a time: a tensor may be on another device."""

    def __init__(self, frames: Any) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self._frames):
            raise IndexError(index)
        return self._frames[index]


def _as_array(picture: Any, index: int) -> Image:
    if hasattr(picture, "convert") and hasattr(picture, "mode"):  # PIL, which is never imported
        return np.asarray(picture.convert("RGB"))
    if hasattr(picture, "detach"):  # torch, likewise
        picture = picture.detach().cpu().numpy()
    if isinstance(picture, np.ndarray) and picture.ndim == 3:
        return picture
    what = f"of shape {picture.shape}" if hasattr(picture, "shape") else type(picture).__name__
    raise UsageError(f"frame {index} is {what}: {WAY_OUT}")


def _colour_last(image: Image, index: int, channels: Channels) -> Image:
    first, last = image.shape[0] == 3, image.shape[2] == 3
    if channels == "auto" and first and last:
        raise UsageError(
            f"frame {index} of shape {image.shape} may have its colours in the first or the last "
            "axis; say channels='first' or channels='last'"
        )
    if (channels == "last" or not first) and last:
        return image
    if channels in ("auto", "first") and first:
        return image.transpose(1, 2, 0)
    raise UsageError(f"frame {index} is of shape {image.shape}: {WAY_OUT} (channels={channels!r})")


def _clock(times: Sequence[float], count: int | None) -> list[float]:
    """The times of `count` frames. UsageError for those that are no clock."""
    try:
        found = [float(t) for t in times]
    except (TypeError, ValueError) as error:
        raise UsageError(f"times must be seconds: {error}") from None
    if count is not None and len(found) != count:
        raise UsageError(f"{len(found)} times for {count} frames; each frame has one")
    if len(found) < 2:
        raise UsageError("one frame has no duration by its time alone; give fps instead of times")
    rising = all(a < b for a, b in pairwise(found))
    if not rising or not all(map(math.isfinite, found)) or found[0] < 0:
        raise UsageError("times must be seconds, 0 or more, each later than the one before")
    return found
