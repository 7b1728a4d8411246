"""FRAMES -> WINDOWS: which frames make a row. Integers and seconds only; no pixels, no torch.

The timeline is the video's own frames (native) or a resampled one: position j stands for the
instant j / fps after the first frame and shows the frame that is on screen then.

A window has W frames, every K-th position, from its start k*S; its span is W*K positions:

    W = 4, K = 2, S = 8 (span 8), N = 19 positions

    position   0 1 2 3 4 5 6 7 8 9 . . . . . . 16 . 18
    window 0   x   x   x   x
    window 1                   x   x   x   x
    window 2                                   x     x   + 2 padded

A window is full when its whole span lies on the timeline. Tail rules for what is left, N >= 1:

    drop      only full windows                              floor((N - span) / S) + 1, or 0
    pad       repeat the timeline's last frame      min(ceil(N / S), 1 + ceil(max(0, N - span) / S))
    loop      repeat the window's own frames in order        as pad
    zero      black frames (before normalisation)            as pad
    backpad   the last window is moved back to end at N      1 + ceil(max(0, N - span) / S)

A video shorter than one span gives one padded row under `backpad` as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from tubelet.errors import UsageError
from tubelet.types import VideoInfo, Window

Tail = Literal["drop", "pad", "loop", "zero", "backpad"]
Resample = Literal["hold", "ffmpeg-near"]
Index = Literal["every-kth", "linspace"]

BLACK = -1
"""The frame index of a black frame."""

TICK_S = 1e-6
"""Two times closer than this are the same instant (container time bases are coarser)."""


@dataclass(frozen=True)
class WindowConfig:
    """How a timeline is cut.

    frames: W, frames of a window. interval: K. stride: S in positions; None means the span.
    length: positions that a window covers; None means W*K. Several models over one plan share it.
    tail: rule for the incomplete end. fps: resampled rate; None keeps the video's own frames.
    resample: `hold` shows at each instant the frame on screen; `ffmpeg-near` moves every frame to
    the nearest instant, as FFmpeg's fps filter does by default, and repeats or drops accordingly.
    index: `every-kth`, or `linspace`: W indices from 0 to (W*K*floor(native fps)/30 - 1), truncated
    and clamped to the window (the formula of the HERO and QVHighlights features).
    """

    frames: int
    interval: int = 1
    stride: int | None = None
    length: int | None = None
    tail: Tail = "pad"
    fps: Fraction | None = None
    resample: Resample = "hold"
    index: Index = "every-kth"

    def __post_init__(self) -> None:
        for name in ("frames", "interval", "stride", "length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be a whole number of at least 1")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"fps is {self.fps}; it must lie in (0, 1000], or be `native`")
        for name, kinds in (("tail", Tail), ("resample", Resample), ("index", Index)):
            if getattr(self, name) not in get_args(kinds):
                known = ", ".join(get_args(kinds))
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be one of {known}")

    @property
    def span(self) -> int:
        """Positions that one window covers."""
        return self.length or self.frames * self.interval

    @property
    def step(self) -> int:
        """S: positions between the starts of two windows."""
        return self.stride or self.span


def count_rows(n: int, config: WindowConfig) -> int:
    """Rows of a timeline of n positions."""
    if n < 1:
        return 0
    span, step = config.span, config.step
    beyond = -(-max(0, n - span) // step)
    if config.tail == "drop":
        return 0 if n < span else (n - span) // step + 1
    if config.tail == "backpad":
        return 1 + beyond
    return min(-(-n // step), 1 + beyond)


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
    """One window on the timeline: W positions (BLACK where black) and how many are real."""

    index: int
    positions: tuple[int, ...]
    real: int


def place(k: int, n: int, config: WindowConfig, wanted: Sequence[int]) -> Placement:
    """Window k of a timeline of n positions; `wanted` are the window's offsets."""
    start = k * config.step
    if config.tail == "backpad" and start + config.span > n:
        start = max(0, n - config.span)
    inside = [start + o for o in wanted if start + o < n]
    real = len(inside)
    missing = len(wanted) - real
    if config.tail == "zero":
        filler = [BLACK] * missing
    elif config.tail == "loop":
        filler = [inside[i % real] for i in range(missing)]
    else:
        filler = [n - 1] * missing
    return Placement(k, tuple(inside + filler), real)


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
    rows = (place(k, len(shown), config, wanted) for k in range(count_rows(len(shown), config)))
    return [
        Window(p.index, tuple(shown[q] if q != BLACK else BLACK for q in p.positions), p.real)
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


def row_times(
    windows: Sequence[Window], times: Sequence[float], end_s: float, config: WindowConfig
) -> list[tuple[float, float]]:
    """(start_s, end_s) of planned rows: the first frame appears, the last real one's display ends.

    On a resampled timeline a position is on screen from its instant for 1 / fps seconds.
    """
    ends = [*times[1:], end_s]
    if config.fps is None:
        return [(times[w.frames[0]], ends[w.frames[w.real - 1]]) for w in windows]
    n = len(timeline(times, end_s, config))
    wanted = offsets(config)
    tick = float(1 / config.fps)
    spans: list[tuple[float, float]] = []
    for w in windows:
        spot = place(w.index, n, config, wanted)
        first, last = spot.positions[0], spot.positions[spot.real - 1]
        spans.append(
            (times[0] + float(first / config.fps), times[0] + float(last / config.fps) + tick)
        )
    return spans
