"""PTS -> seconds. Pure arithmetic, shared by the readers."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Protocol

from tubelet.types import DecodeEvents

LONGEST_GAP_S = 86_400
"""A PTS more than a day after the frame before it is a damaged number, not a pause."""


class Clock:
    """Gives every frame, in display order, a time that is later than the one before.

        PTS    0   2   4   -   8   6   12      one missing, one out of order
        time   0   2   4   6   8  10   12      (1/rate = 2)
        counted            *       *

    A frame whose PTS is missing, not later than the time before it or implausibly far away is
    shown one average frame interval after the frame before it, and counted.
    """

    def __init__(self, *, start: Fraction, rate: Fraction, events: DecodeEvents) -> None:
        self._start = start
        self._interval = 1 / rate
        self._events = events
        self._last: Fraction | None = None

    def time(self, pts: Fraction | None) -> Fraction:
        """Seconds since the container's start of the next frame; `pts` in seconds or None."""
        wanted = None if pts is None else pts - self._start
        last = self._last
        if last is None:
            good = wanted is not None and abs(wanted) <= LONGEST_GAP_S
            instead = Fraction(0)
        else:
            good = wanted is not None and 0 < wanted - last <= LONGEST_GAP_S
            instead = last + self._interval
        if good and wanted is not None:
            self._last = wanted
        else:
            self._events.bad_timestamps += 1
            self._last = instead
        return self._last


class Stamped(Protocol):
    """A packet or a frame of a decoder."""

    @property
    def pts(self) -> int | None: ...
    @property
    def dts(self) -> int | None: ...


class DisplayOrder:
    """Timestamps of a container that stores PTS: the frame's own."""

    def sent(self, packet: Stamped) -> None:
        """The decoder took a packet."""

    def shown(self, frame: Stamped) -> int | None:
        """The decoder gave a frame: its timestamp, in units of the stream's time base."""
        return frame.pts


class DecodeOrder:
    """Timestamps of a container that stores no PTS, only the order of decoding: the k-th frame
    shown gets the k-th place, whatever order the packets were in."""

    def __init__(self) -> None:
        self._places: deque[int | None] = deque()

    def sent(self, packet: Stamped) -> None:
        self._places.append(packet.dts)

    def shown(self, frame: Stamped) -> int | None:
        return self._places.popleft() if self._places else None
