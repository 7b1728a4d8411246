"""A segment of a file, read from a key frame before it instead of from the start.

The pictures come from `part.py`, which looks for everything that could make them differ from those
of a pass over the whole file. Where it finds something, the rest comes from such a pass. The
packets of a file are read once for all segments of it that follow each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from tubelet.decode.part import PartReader, UnreadFrame
from tubelet.decode.pyav import PyAVFrame, PyAVReader
from tubelet.decode.scan import Timeline, scan
from tubelet.decode.types import Color
from tubelet.errors import NotSplittable
from tubelet.types import DecodeEvents, VideoReader


def open_segment(
    path: str, start_s: float, end_s: float | None, *, color: Color = "auto"
) -> VideoReader:
    """A reader of every frame of the file, of which those outside [start_s, end_s) come unread.

    Where decoding from the start is as short, or the only sure way, it is a plain reader. Raises
    the VideoErrors of opening.
    """
    stat = os.stat(path)
    timeline = _timeline(path, stat.st_size, stat.st_mtime_ns)
    first = int(np.searchsorted(timeline.times_s, start_s))
    stop = timeline.frames
    if end_s is not None:
        stop = int(np.searchsorted(timeline.times_s, end_s))
    entries = timeline.entries
    # Decoding begins one key frame earlier than needed: with one before the segment, at the start.
    if entries is None or not timeline.exact or np.count_nonzero(entries.keys <= first) < 3:
        return PyAVReader(path, color=color)
    if first >= stop:  # nothing to decode; the times tell why
        first = stop
    try:
        return SegmentReader(path, timeline, first=first, stop=stop, color=color)
    except NotSplittable:
        return PyAVReader(path, color=color)


@lru_cache(maxsize=4)
def _timeline(path: str, size: int, changed_ns: int) -> Timeline:
    """Of a file in this state: size and time of change are only there to tell it from others."""
    return scan(path)


class SegmentReader:
    """types.VideoReader of frames [first, stop) of a file; the others come unread."""

    def __init__(
        self, path: str, timeline: Timeline, *, first: int, stop: int, color: Color
    ) -> None:
        self._part = PartReader(path, timeline, first=first, stop=stop, color=color)
        self._path = path
        self._color: Color = color
        self._timeline, self._stop = timeline, stop
        self.info = self._part.info
        self.events = DecodeEvents()

    def frames(self) -> Iterator[PyAVFrame | UnreadFrame]:
        """Every frame of the video in order, with its time."""
        self.events, done = DecodeEvents(), 0
        try:
            for frame in self._part.frames():
                yield frame
                done = frame.index + 1
                if done >= self._stop:
                    break  # the part would go on for its neighbour
        except NotSplittable:
            yield from self._from_the_start(done)
            return
        times = [*self._timeline.times_s.tolist(), self._timeline.end_s]
        for i in range(done, self._timeline.frames):
            yield UnreadFrame(i, times[i], times[i + 1] - times[i])

    def _from_the_start(self, done: int) -> Iterator[PyAVFrame]:
        """What a pass over the whole file gives from frame `done` on."""
        with PyAVReader(self._path, color=self._color) as whole:
            frames = whole.frames()
            self.events = whole.events
            for frame in frames:
                if frame.index >= done:
                    yield frame

    def close(self) -> None:
        self._part.close()

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
