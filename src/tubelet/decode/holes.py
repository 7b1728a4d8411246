"""Frames that are not in the file any more and left no trace but a hole in its clock.

    stamps    0  40  80  120        240  280  320      rate 25: 160 and 200 are missing

In Matroska and MPEG streams a demuxer that meets damage skips to the next place it understands,
without a word. Where the container shows damage, a clock that otherwise ticks in whole frame
intervals tells how much is gone; one that does not (variable frame rate) tells nothing, and nothing
is claimed. A hole alone is no damage: recorders pause, and filters leave out frames that repeat.
"""

from __future__ import annotations

from fractions import Fraction

from av.container import Container
from av.stream import Stream

from tubelet.decode.structure import is_broken_matroska, is_broken_transport_stream

SKIPS = ("matroska,webm", "mpegts", "mpeg")


def may_skip(container: Container) -> bool:
    return container.format.name in SKIPS


def has_lost_bytes(stream: Stream, path: str) -> bool:
    """Whether the container itself shows that something is gone; False where it could not."""
    name = stream.container.format.name
    if name == "mpegts":
        return is_broken_transport_stream(path, stream.id)
    return name == "matroska,webm" and is_broken_matroska(path)


class Holes:
    """interval: of the frames, tolerance: of their rounding, both in units of the stamps."""

    def __init__(self, interval: Fraction, *, tolerance: Fraction) -> None:
        self._interval = interval
        self._tolerance = tolerance
        self._last: int | None = None
        self._steps = 0
        self._irregular = 0
        self._holes = 0
        self.missing = 0

    def step(self, stamp: int | None) -> bool:
        """Whether frames are missing just before this one."""
        if stamp is None:
            return False
        last, self._last = self._last, stamp
        if last is None:
            return False
        self._steps += 1
        intervals = round((stamp - last) / self._interval)
        rounded = abs(stamp - last - intervals * self._interval) <= self._tolerance
        if intervals < 1 or not rounded:
            self._irregular += 1
            return False
        self._holes += intervals > 1
        self.missing += intervals - 1
        return intervals > 1

    @property
    def certain(self) -> bool:
        """The clock is steady: no variable rate, nor one that differs from the header's."""
        return 10 * self._irregular <= self._steps and 3 * self._holes <= self._steps
