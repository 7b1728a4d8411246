"""frames + windows -> pixels per window, in one pass. Each frame is decoded and prepared once.

Push frames in display order, take rows as soon as their last position is known:

    frames  0 1 2 3 4 5 6 7 8 ...        feed(frame) -> rows that became complete
    rows    └──── 0 ────┘                finish()    -> rows of the incomplete end
                └──── 1 ────┘

Pixels may need the next position of the timeline too (optical flow). With `pairs` a position is
prepared when its successor is known; the last one, which has none, repeats the pixels before it:

    positions  0   1   2   3               N positions, N - 1 pairs
    prepared  0-1 1-2 2-3 2-3

Held at any time: the prepared frames of the open windows (at most the offsets of one span, times
span / stride windows that share them, and what the tail rule may still want of the end, its
`spare`), and two decoded frames: the newest, whose display end is known only when the next one
appears, and that of the last position. Memory does not grow with the video.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from tubelet.clips.tails import BLACK
from tubelet.clips.windows import WindowConfig, boundary, count_rows, offsets, place, times_of
from tubelet.types import Frame, Window

P = TypeVar("P")


@dataclass(frozen=True)
class Row(Generic[P]):
    """One window with its pixels. Times in seconds, see `windows.RowTimes`."""

    window: Window
    pixels: list[P]
    start_s: float
    end_s: float
    center_s: float


@dataclass
class _Held(Generic[P]):
    """What is known of one position."""

    pixels: P
    frame: int
    start_s: float
    end_s: float


@dataclass
class _Shown(Generic[P]):
    """The timeline's newest position: `pixels` of its frame where they were made already."""

    position: int
    frame: Frame
    times: tuple[float, float]
    pixels: P | None


class Gatherer(Generic[P]):
    """One set of windows over one video.

    prepare: (frame, pair) -> pixels, called once for every frame that a window wants. `pair` is
    None, unless `pairs`: then it is (frame, frame at the next position), the same frame twice where
    a resampled timeline repeats it; at the last position it is the pair before, and None only
    where the timeline has a single position.
    black: the pixels of a frame that stands for none. native_fps: the video's average rate. limit:
    most rows, `windows.row_limit`. total: positions of the timeline, counted beforehand where the
    tail rule is `counted`. `frames` and `positions` count what has been seen.
    """

    def __init__(
        self,
        config: WindowConfig,
        *,
        prepare: Callable[[Frame, tuple[Frame, Frame] | None], P],
        black: P,
        native_fps: Fraction,
        limit: int | None = None,
        total: int | None = None,
        pairs: bool = False,
    ) -> None:
        self.config = config
        self.frames = 0
        self.positions = 0
        self._prepare = prepare
        self._black = black
        self._rule = config.rule
        self._reach = config.reach
        assert (total is not None) == self._rule.counted
        self._limit = config.rows if limit is None else limit
        self._most = sys.maxsize if self._limit is None else self._limit
        self._total = total or 0
        self._offsets = offsets(config, native_fps)
        self._wanted = frozenset(self._offsets)
        self._next = 0
        self._first_s = 0.0
        self._pending: Frame | None = None
        self._held: dict[int, _Held[P]] = {}
        self._pairs = pairs
        self._newest: _Shown[P] | None = None
        self._before: Frame | None = None

    def feed(self, frame: Frame) -> Iterator[Row[P]]:
        """The next frame, in display order. Yields the rows that are complete now."""
        if self._pending is None:
            self._first_s = frame.time_s
        else:
            yield from self._show(self._pending, frame.time_s, final=False)
        self._pending = frame
        self.frames += 1

    def finish(self) -> Iterator[Row[P]]:
        """No more frames. Yields the rows of the end, by the tail rule."""
        last = self._pending
        if last is None:
            return
        yield from self._show(last, last.time_s + last.duration_s, final=True)
        self._pending = None
        self._hold_newest()
        for k in range(self._next, count_rows(self.positions, self.config, limit=self._limit)):
            yield self._row(k)

    def _show(self, frame: Frame, end_s: float, *, final: bool) -> Iterator[Row[P]]:
        """`frame` fills its positions; it stays on screen until end_s."""
        stop = self._stop(end_s, final=final)
        pixels: P | None = None
        for position in range(self.positions, stop):
            times = self._times(position, frame, end_s)
            if self._pairs:
                self._settle(frame)
            elif self._is_wanted(position):
                pixels = self._prepare(frame, None) if pixels is None else pixels
                self._held[position] = _Held(pixels, frame.index, *times)
            self._newest = _Shown(position, frame, times, pixels)
        self.positions = max(self.positions, stop)
        self._forget()
        ready = self.positions - self._pairs
        while self._start() + self._reach <= ready and self._next < self._most:
            yield self._row(self._next)
            self._next += 1
            self._forget()

    def _settle(self, successor: Frame) -> None:
        """With pairs: the newest position is followed by a position that shows `successor`."""
        newest = self._newest
        if newest is None:
            return
        if self._is_wanted(newest.position):
            pixels = self._prepare(newest.frame, (newest.frame, successor))
            self._held[newest.position] = _Held(pixels, newest.frame.index, *newest.times)
        self._before = newest.frame

    def _hold_newest(self) -> None:
        """The timeline's last position, which padding repeats though no window may sample it."""
        newest = self._newest
        if newest is None or newest.position in self._held:
            return
        pixels = newest.pixels
        if self._pairs and self._before is not None:
            pixels = self._prepare(newest.frame, (self._before, newest.frame))
        elif pixels is None:
            pixels = self._prepare(newest.frame, None)
        self._held[newest.position] = _Held(pixels, newest.frame.index, *newest.times)

    def _start(self) -> int:
        """Where the next window starts."""
        return self._rule.start(self._next, self._total, self.config)

    def _stop(self, end_s: float, *, final: bool) -> int:
        if self.config.fps is None:
            return self.positions + 1
        stop = boundary(end_s, self._first_s, self.config)
        return max(stop, 1) if final else stop

    def _times(self, position: int, frame: Frame, end_s: float) -> tuple[float, float]:
        """When a position is on screen: its frame's display, or its instant when resampled."""
        if self.config.fps is None:
            return frame.time_s, max(end_s, frame.time_s)
        start = self._first_s + float(position / self.config.fps)
        return start, start + float(1 / self.config.fps)

    def _is_wanted(self, position: int) -> bool:
        """Whether a window that is still open samples a position, or the end may take it."""
        if self._rule.wants(position, self._total, self.config):
            return True
        for k in range(self._next, self._most):
            start = self._rule.start(k, self._total, self.config)
            if start > position:
                break
            if position - start in self._wanted:
                return True
        return False

    def _forget(self) -> None:
        """Drop what neither the next window nor, under some tail rules, the last one may use."""
        spare = self._rule.spare(self.positions, self.config)
        oldest = min(self._start(), spare)
        for position in [p for p in self._held if p < oldest]:
            del self._held[position]

    def _row(self, k: int) -> Row[P]:
        spot = place(k, self._total or self.positions, self.config, self._offsets)
        held = [None if p == BLACK else self._held[p] for p in spot.positions]
        pixels = [self._black if h is None else h.pixels for h in held]
        frames = tuple(BLACK if h is None else h.frame for h in held)
        window = Window(k, frames, spot.real, spot.lead)
        times = times_of(spot, self.config, self._on_screen)
        return Row(window, pixels, times.start_s, times.end_s, times.center_s)

    def _on_screen(self, position: int) -> tuple[float, float]:
        held = self._held[position]
        return held.start_s, held.end_s
