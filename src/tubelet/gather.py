"""frames + windows -> pixels per window, in one pass. Each frame is decoded and prepared once.

Push frames in display order, take rows as soon as their last position is known:

    frames  0 1 2 3 4 5 6 7 8 ...        feed(frame) -> rows that became complete
    rows    └──── 0 ────┘                finish()    -> rows of the incomplete end
                └──── 1 ────┘

Held at any time: the prepared frames of the open windows (at most the offsets of one span, times
span / stride windows that share them; the whole last span under `backpad`), and one decoded frame,
whose display end is known only when the next one appears. Memory does not grow with the video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from tubelet.types import Frame, Window
from tubelet.window import BLACK, WindowConfig, boundary, count_rows, offsets, place

P = TypeVar("P")


@dataclass(frozen=True)
class Row(Generic[P]):
    """One window with its pixels. Times in seconds, see `types.Features`."""

    window: Window
    pixels: list[P]
    start_s: float
    end_s: float

    @property
    def center_s(self) -> float:
        return (self.start_s + self.end_s) / 2


@dataclass
class _Held(Generic[P]):
    """What is known of one position."""

    pixels: P
    frame: int
    start_s: float
    end_s: float


class Gatherer(Generic[P]):
    """One set of windows over one video.

    prepare: frame -> pixels, called once for every frame that a window wants.
    black: the pixels of a black frame (tail rule `zero`). native_fps: the video's average rate.
    `frames` and `positions` count what has been seen.
    """

    def __init__(
        self,
        config: WindowConfig,
        *,
        prepare: Callable[[Frame], P],
        black: P,
        native_fps: Fraction,
    ) -> None:
        self.config = config
        self.frames = 0
        self.positions = 0
        self._prepare = prepare
        self._black = black
        self._offsets = offsets(config, native_fps)
        self._wanted = frozenset(self._offsets)
        self._next = 0
        self._first_s = 0.0
        self._pending: Frame | None = None
        self._held: dict[int, _Held[P]] = {}

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
        for k in range(self._next, count_rows(self.positions, self.config)):
            yield self._row(k)

    def _show(self, frame: Frame, end_s: float, *, final: bool) -> Iterator[Row[P]]:
        """`frame` fills its positions; it stays on screen until end_s."""
        stop = self._stop(end_s, final=final)
        pixels: P | None = None
        for position in range(self.positions, stop):
            is_last = final and position == stop - 1
            if not (is_last or self._is_wanted(position)):
                continue
            if pixels is None:
                pixels = self._prepare(frame)
            self._held[position] = _Held(pixels, frame.index, *self._times(position, frame, end_s))
        self.positions = max(self.positions, stop)
        if self.config.tail == "backpad":
            self._forget(min(self._next * self.config.step, self.positions - self.config.span))
        while self._next * self.config.step + self.config.span <= self.positions:
            yield self._row(self._next)
            self._next += 1
            if self.config.tail != "backpad":
                self._forget(self._next * self.config.step)

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
        config = self.config
        if config.tail == "backpad":
            return True
        first = max(self._next, -(-(position - config.span + 1) // config.step))
        starts = range(first, position // config.step + 1)
        return any(position - k * config.step in self._wanted for k in starts)

    def _forget(self, before: int) -> None:
        for position in [p for p in self._held if p < before]:
            del self._held[position]

    def _row(self, k: int) -> Row[P]:
        spot = place(k, self.positions, self.config, self._offsets)
        held = [None if p == BLACK else self._held[p] for p in spot.positions]
        pixels = [self._black if h is None else h.pixels for h in held]
        own = [h for h in held[: spot.real] if h is not None]
        window = Window(k, tuple(BLACK if h is None else h.frame for h in held), spot.real)
        return Row(window, pixels, own[0].start_s, own[-1].end_s)
