"""FRAMES -> WINDOWS: which frames make a row. Integers and seconds only; no pixels, no torch.

The timeline is the video's own frames (native) or a resampled one: position j stands for the
instant j / fps after the first frame and shows the frame that is on screen then.

A window has W frames, every K-th position, from its start k*S; its span is W*K positions:

    W = 4, K = 2, S = 8 (span 8), N = 19 positions

    position   0 1 2 3 4 5 6 7 8 9 . . . . . . 16 . 18
    window 0   x   x   x   x
    window 1                   x   x   x   x
    window 2                                   x     x   + 2 padded

A window is full when its whole span lies on the timeline. What becomes of the rest is the tail
rule's, see `tails`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from tubelet.clips.tails import BLACK, TAILS, TailRule
from tubelet.errors import UsageError
from tubelet.types import VideoInfo, Window

Resample = Literal["hold", "ffmpeg-near"]
Index = Literal["every-kth", "linspace"]

TICK_S = 1e-6
"""Two times closer than this are the same instant (container time bases are coarser)."""


@dataclass(frozen=True)
class WindowConfig:
    """How a timeline is cut.

    frames: W, frames of a window. interval: K. stride: S in positions; None means the span.
    length: positions that a window covers; None means W*K. Several models over one plan share it.
    tail: rule for the incomplete end, a name of `TAILS`. fps: resampled rate; None keeps the
    video's own frames.
    resample: `hold` shows at each instant the frame on screen; `ffmpeg-near` moves every frame to
    the nearest instant, as FFmpeg's fps filter does by default, and repeats or drops accordingly.
    index: `every-kth`, or `linspace`: W indices from 0 to (W*K*floor(native fps)/30 - 1), truncated
    and clamped to the window (the formula of the HERO and QVHighlights features).
    rows: how many, for the tail `uniform` and only for it.
    """

    frames: int
    interval: int = 1
    stride: int | None = None
    length: int | None = None
    tail: str = "pad"
    fps: Fraction | None = None
    resample: Resample = "hold"
    index: Index = "every-kth"
    rows: int | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "interval", "stride", "length", "rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                shown = "window (its frames)" if name == "frames" else name
                raise UsageError(f"{shown} is {value}; it must be a whole number of at least 1")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"fps is {self.fps}; it must lie in (0, 1000], or be `native`")
        for name, known in (
            ("tail", tuple(TAILS)),
            ("resample", get_args(Resample)),
            ("index", get_args(Index)),
        ):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(known)}"
                )
        reach = (self.frames - 1) * self.interval + 1
        if self.length is not None and self.length < reach and self.index == "every-kth":
            raise UsageError(
                f"length is {self.length}; it must hold the window's {reach} positions"
            )
        if (self.rows is not None) != self.rule.counted:
            raise UsageError(
                f"row count is {self.rows} with tail {self.tail}; tail uniform, and only it, must "
                "have a number of rows (--row-count 32)"
            )
        self.rule.check(self)

    @property
    def rule(self) -> TailRule:
        """What the tail rule's name stands for."""
        return TAILS[self.tail]

    @property
    def reach(self) -> int:
        """Positions after a window's start that must be known before it is certain."""
        return self.rule.reach(self)

    @property
    def span(self) -> int:
        """Positions that one window covers."""
        return self.length or self.frames * self.interval

    @property
    def step(self) -> int:
        """S: positions between the starts of two windows."""
        return self.stride or self.span


def count_rows(n: int, config: WindowConfig, *, limit: int | None = None) -> int:
    """Rows of a timeline of n positions; at most `limit`, see `row_limit`."""
    rows = config.rule.count(n, config) if n > 0 else 0
    return rows if limit is None else min(rows, limit)


def row_limit(stream_s: float | None, config: WindowConfig) -> int | None:
    """Most rows that `VideoInfo.stream_s` allows; None where the tail rule knows no limit."""
    limit = config.rule.limit
    return None if limit is None or stream_s is None else limit(stream_s, config)


def linspace_indices(start: float, end: float, count: int, last: int) -> list[int]:
    """`count` evenly spaced values from start to end, clamped to [0, last] and truncated.

    In float32 and from both ends (start + step * i in the first half, end - step * (count - 1 - i)
    in the second), so that truncation falls as it does in the reference, which uses torch.linspace.
    """
    if count == 1:
        return [int(min(max(start, 0), last))]
    f = np.float32
    step = (f(end) - f(start)) / f(count - 1)
    i = np.arange(count, dtype=np.float32)
    up, down = f(start) + step * i, f(end) - step * (f(count - 1) - i)
    values = np.where(i < count // 2, up, down)
    return [int(v) for v in np.clip(values, 0, last)]


def offsets(config: WindowConfig, native_fps: Fraction = Fraction(30)) -> tuple[int, ...]:
    """Positions of a window's frames relative to its start, W of them, rising."""
    if config.index == "every-kth":
        return tuple(i * config.interval for i in range(config.frames))
    end = config.frames * config.interval * math.floor(native_fps) / 30 - 1
    return tuple(linspace_indices(0, end, config.frames, last=config.span - 1))


@dataclass(frozen=True)
class Placement:
    """One window on the timeline: W positions (BLACK where black).

    The first `lead` and the last ones fill up; `real` of them, in between, are the window's own.
    """

    index: int
    positions: tuple[int, ...]
    real: int
    lead: int = 0


def place(k: int, n: int, config: WindowConfig, wanted: Sequence[int]) -> Placement:
    """Window k of a timeline of n positions; `wanted` are the window's offsets."""
    rule = config.rule
    start = rule.start(k, n, config)
    if rule.latest is not None:
        start = min(start, rule.latest(n, config))
    places = [start + o for o in wanted]
    lead = sum(p < 0 for p in places)
    inside = [p for p in places if 0 <= p < n]
    beyond = rule.beyond(places[lead + len(inside) :], inside, n, config)
    return Placement(k, (*[rule.head] * lead, *inside, *beyond), len(inside), lead)


def boundary(time_s: float, first_s: float, config: WindowConfig) -> int:
    """Positions of a resampled timeline that lie before a frame appearing at `time_s`.

    `hold`: the instants first_s + j / fps before it. `ffmpeg-near`: the ticks before the one
    nearest to it (FFmpeg's fps filter, round=near), counted from the first frame's own tick.
    """
    assert config.fps is not None
    rate = float(config.fps)
    if config.resample == "hold":
        return max(0, math.ceil((time_s - first_s - TICK_S) * rate))
    return math.floor(time_s * rate + 0.5 + TICK_S) - math.floor(first_s * rate + 0.5 + TICK_S)


def timeline(times: Sequence[float], end_s: float, config: WindowConfig) -> Sequence[int]:
    """Frame index at every position. Native: each frame once. `times` rise; end_s: display end.

    A resampled timeline shows at least one frame.
    """
    if config.fps is None or not times:
        return range(len(times))
    stops = [boundary(t, times[0], config) for t in times[1:]]
    last = stops[-1] if stops else 0
    stops.append(max(boundary(end_s, times[0], config), last + (not last)))
    shown: list[int] = []
    for frame, stop in enumerate(stops):
        shown.extend([frame] * (stop - len(shown)))
    return shown


def plan_windows(
    info: VideoInfo,
    config: WindowConfig,
    times: Sequence[float] | None = None,
    end_s: float | None = None,
) -> list[Window]:
    """Every row of a video, as `extract` will make it.

    Without `times` (seconds of each frame, rising) the header's promises are believed: its frame
    count, or duration times rate, at a constant rate. UsageError where it promises neither.
    """
    if times is None:
        n = info.frames
        if n is None and info.duration_s is not None:
            n = round(info.duration_s * info.fps)
        if n is None:
            raise UsageError(
                f"{info.path}: the header gives no frame count; pass the frames' times"
            )
        times = [float(i / info.fps) for i in range(n)]
    if end_s is None:
        end_s = times[-1] + float(1 / info.fps) if times else 0.0
    shown = timeline(times, end_s, config)
    wanted = offsets(config, info.fps)
    count = count_rows(len(shown), config, limit=row_limit(info.stream_s, config))
    rows = (place(k, len(shown), config, wanted) for k in range(count))
    return [
        Window(p.index, tuple(shown[q] if q != BLACK else q for q in p.positions), p.real, p.lead)
        for p in rows
    ]


def parse_fps(text: str) -> Fraction | None:
    """`native` -> None, else a positive number or fraction such as 30, 29.97 or 30000/1001."""
    if text == "native":
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"fps {text!r}: need `native`, a number or a fraction") from None


@dataclass(frozen=True)
class RowTimes:
    """When a row is, in seconds.

    start_s: its first frame appears. end_s: the display ends of the last frame that it shows, a
    repeated one too. center_s: their mean; of a window around a position, that position: where it
    appears for an even number of frames (half of them lie before), else the middle of its display.
    """

    start_s: float
    end_s: float
    center_s: float


def times_of(
    spot: Placement, config: WindowConfig, on_screen: Callable[[int], tuple[float, float]]
) -> RowTimes:
    """on_screen: (appears, ends) of a position of the timeline."""
    shown = [p for p in spot.positions if p != BLACK]
    start_s, end_s = on_screen(shown[0])[0], on_screen(max(shown))[1]
    if not config.rule.centred or config.index != "every-kth":
        return RowTimes(start_s, end_s, (start_s + end_s) / 2)
    # The window's own frame there: it is on the timeline, however much of the rest is not.
    appears, ends = on_screen(config.step // 2 + spot.index * config.step)
    return RowTimes(start_s, end_s, appears if config.frames % 2 == 0 else (appears + ends) / 2)


def row_times(
    windows: Sequence[Window],
    times: Sequence[float],
    end_s: float,
    config: WindowConfig,
    native_fps: Fraction = Fraction(30),
) -> list[RowTimes]:
    """The times of planned rows, as `extract` will give them.

    On a resampled timeline a position is on screen from its instant for 1 / fps seconds.
    """
    ends = [*times[1:], end_s]

    def on_screen(position: int) -> tuple[float, float]:
        if config.fps is None:
            return times[position], ends[position]
        start = times[0] + float(position / config.fps)
        return start, start + float(1 / config.fps)

    n = len(timeline(times, end_s, config))
    wanted = offsets(config, native_fps)
    return [times_of(place(w.index, n, config, wanted), config, on_screen) for w in windows]
