"""PTS -> seconds. Pure arithmetic, shared by the readers."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Protocol

from tubelet.types import DecodeEvents

LONGEST_GAP_S = 86_400
"""A PTS more than a day after the frame before it is a damaged number, not a pause."""


LEAP_S = 10
"""A longer pause must be confirmed by the next frame."""

REORDERED = 16
"""No codec shows frames more than this many places out of order."""


class Clock:
    """Gives every frame, in display order, a time that is later than the one before.

        PTS    0   2   4   -   8   6   10      one missing, one out of order
        time   0   2   4   6   8   9   10      (1/rate = 2)
        counted            *       *

    A frame without PTS (or with an absurd one) is shown one average interval after the frame
    before it. One whose PTS is not later than that is squeezed in before the next: half an
    interval on, a quarter for a second one in a row, ..., so that good timestamps after it keep
    their value. A longer run is a clock that was set back: then the average rate goes on.
    Each of them is counted.
    """

    def __init__(self, *, start: Fraction, rate: Fraction, events: DecodeEvents) -> None:
        self._start = start
        self._interval = 1 / rate
        self._events = events
        self._last: Fraction | None = None
        self._late = 0

    def time(self, pts: Fraction | None, *, after: Fraction | None = None) -> Fraction:
        """Seconds since the container's start of the next frame; `pts` in seconds or None.
        `after` is the PTS of the frame after it: a leap that it does not follow was none."""
        wanted = None if pts is None else pts - self._start
        if self._last is None:
            usable = wanted is not None and abs(wanted) <= LONGEST_GAP_S
            instead = Fraction(0)
        else:
            gap = None if wanted is None else wanted - self._last
            usable = gap is not None and 0 < gap <= LONGEST_GAP_S
            if gap is not None and pts is not None and after is not None and gap > LEAP_S:
                usable = usable and after > pts
            self._late = self._late + 1 if gap is not None and gap <= 0 else 0
            squeezed = 0 < self._late <= REORDERED
            instead = self._last + (self._interval / 2**self._late if squeezed else self._interval)
        if usable and wanted is not None:
            time = wanted
        else:
            self._events.bad_timestamps += 1
            time = instead
        self._last = time
        return time


class Stamped(Protocol):
    """A packet."""

    @property
    def dts(self) -> int | None: ...
    @property
    def is_keyframe(self) -> bool: ...


class Shown(Protocol):
    """A frame of a decoder. dts: of the packet that made the decoder give it."""

    @property
    def pts(self) -> int | None: ...
    @property
    def dts(self) -> int | None: ...
    @property
    def key_frame(self) -> bool: ...


class DisplayOrder:
    """Timestamps of a container that stores PTS: the frame's own, or its DTS where the PTS are
    missing or have gone back more often (FFmpeg's best-effort timestamp: `guess_correct_pts`)."""

    def __init__(self) -> None:
        self._last_pts = self._last_dts = -(2**63)
        self._faulty_pts = self._faulty_dts = 0

    def sent(self, packet: Stamped, *, delayed: bool) -> None:
        """The decoder took a packet that shows a frame."""

    def shown(self, frame: Shown) -> int | None:
        """The decoder gave a frame: its timestamp, in units of the stream's time base."""
        pts, dts = frame.pts, frame.dts
        if dts is not None:
            self._faulty_dts += dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts):
            return pts
        return dts


class DecodeOrder:
    """Timestamps of a container that stores no PTS, only the order of decoding: the k-th frame
    shown gets the k-th place, whatever order the packets were in. The place of a packet that gave
    no frame goes with it."""

    def __init__(self) -> None:
        self._places: deque[tuple[int | None, bool]] = deque()
        self._started = False

    def sent(self, packet: Stamped, *, delayed: bool) -> None:
        """delayed: the decoder reorders frames; otherwise each packet gives its frame at once."""
        if not delayed:
            self._places.clear()
        self._places.append((packet.dts, packet.is_keyframe))

    def shown(self, frame: Shown) -> int | None:
        places = self._places
        if not self._started and frame.key_frame and any(is_key for _, is_key in places):
            # The file begins between key frames; what came before gave nothing.
            while not places[0][1]:
                places.popleft()
        self._started = True
        return places.popleft()[0] if places else None
