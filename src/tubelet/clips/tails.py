"""TAIL RULES: what becomes of the incomplete windows of a timeline. Integers only.

N positions, N >= 1; windows of `span` positions start every S:

    drop      only full windows                              floor((N - span) / S) + 1, or 0
    pad       repeat the timeline's last frame      min(ceil(N / S), 1 + ceil(max(0, N - span) / S))
    loop      repeat the window's own frames in order        as pad
    zero      black frames (before normalisation)            as pad
    backpad   the last window is moved back to end at N      1 + ceil(max(0, N - span) / S)

These rules exist only because published features were made with them (`tubelet.presets`):

    backpad-open    as backpad, but no window reaches the timeline's last frame       ceil(N / S)
    repeat-second   the last frame is repeated to a whole second, then the last second as often as
                    the last window needs; rows beyond the header's duration are cut  ceil(N / S)
    center          window k is centred on position floor(S / 2) + k*S; indices are clamped to the
                    timeline at both ends                              ceil((N - floor(S / 2)) / S)
    center-zero     as center, with black frames at both ends
    center-mean     as center, with frames of the mean colour: zeros behind the normalisation
    uniform         `rows` windows spread over the whole timeline, which has to be counted first:
                    window k starts at round(k * max(0, N - (W-1)*K - 1) / (rows - 1)); places
                    beyond a short timeline start over                                     `rows`

A video shorter than one span gives one padded row under `backpad` as well. A new rule is one line
of `TAILS`; the windows and the gatherer ask the rule, and never for its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from tubelet.errors import UsageError

BLACK = -1
"""The position and the frame index of a frame that stands for none."""


class WindowSizes(Protocol):
    """What a rule may ask about the windows; `windows.WindowConfig`."""

    @property
    def frames(self) -> int: ...
    @property
    def interval(self) -> int: ...
    @property
    def stride(self) -> int | None: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def fps(self) -> Fraction | None: ...
    @property
    def span(self) -> int: ...
    @property
    def step(self) -> int: ...


# How many rows.


def _full(n: int, c: WindowSizes) -> int:
    """Windows whose whole span lies on the timeline."""
    return 0 if n < c.span else (n - c.span) // c.step + 1


def _covering(n: int, c: WindowSizes) -> int:
    """Windows until every position is covered (where windows do not leave gaps)."""
    return 1 + -(-max(0, n - c.span) // c.step)


def _begun(n: int, c: WindowSizes) -> int:
    """Windows that start on the timeline."""
    return -(-n // c.step)


def _needed(n: int, c: WindowSizes) -> int:
    return min(_begun(n, c), _covering(n, c))


def _centres(n: int, c: WindowSizes) -> int:
    """Windows whose centre lies on the timeline."""
    return max(0, -(-(n - c.step // 2) // c.step))


def _fixed(_: int, c: WindowSizes) -> int:
    return c.rows or 0


# Where window k starts.


def _every_step(k: int, _: int, c: WindowSizes) -> int:
    return k * c.step


def _around_centre(k: int, _: int, c: WindowSizes) -> int:
    # Half a window in whole intervals, so that one of its frames is the centre itself.
    return c.step // 2 - c.frames // 2 * c.interval + k * c.step


def _sampled(c: WindowSizes) -> int:
    """Positions from a window's first frame to its last."""
    return (c.frames - 1) * c.interval + 1


def _spread(k: int, n: int, c: WindowSizes) -> int:
    room = max(n - _sampled(c), 0)
    rows = _fixed(n, c)
    # Parenthesised as in the reference: (k * room) / (rows - 1) rounds differently.
    return round(k * (room / (rows - 1))) if rows > 1 else room // 2


# What stands for the places of a window beyond the end.


def _last(beyond: Sequence[int], own: Sequence[int], n: int, c: WindowSizes) -> list[int]:
    return [n - 1] * len(beyond)


def _black(beyond: Sequence[int], own: Sequence[int], n: int, c: WindowSizes) -> list[int]:
    return [BLACK] * len(beyond)


def _own_again(beyond: Sequence[int], own: Sequence[int], n: int, c: WindowSizes) -> list[int]:
    return [own[i % len(own)] for i in range(len(beyond))]


def _from_the_start(beyond: Sequence[int], own: Sequence[int], n: int, c: WindowSizes) -> list[int]:
    return [p % n for p in beyond]


def _last_second(n: int, c: WindowSizes) -> int:
    """First position of the second in which a timeline of n positions ends."""
    rate = int(c.fps or 1)
    return max(0, n - 1) // rate * rate


def _second_again(beyond: Sequence[int], own: Sequence[int], n: int, c: WindowSizes) -> list[int]:
    rate, last = int(c.fps or 1), _last_second(n, c)
    # Up to the whole second the last frame stands still; from there the second repeats.
    return [min(last + p % rate if p >= last + rate else p, n - 1) for p in beyond]


# What a rule refuses, and what it takes from the header.


def _whole_seconds(c: WindowSizes) -> None:
    if c.fps is None or c.fps.denominator != 1:
        raise UsageError(f"fps is {c.fps}; tail repeat-second must have a whole rate")
    if c.step != c.span:
        raise UsageError(f"stride is {c.step}; tail repeat-second must have the window's {c.span}")


def _no_stride(c: WindowSizes) -> None:
    if c.stride is not None:
        raise UsageError(
            f"stride is {c.stride}; tail uniform spreads its windows over the video: leave it out"
        )


def _rows_of_header(stream_s: float, c: WindowSizes) -> int:
    # To the microsecond, which is what ffprobe shows and the reference reads.
    return math.ceil(round(stream_s, 6) / (c.span / float(c.fps or 1)))


def _always(position: int, n: int, c: WindowSizes) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class TailRule:
    """One way to end a timeline. `n` is its number of positions, `c` the windows' configuration.

    count: rows of n positions. start: where window k starts. latest: windows that would start
    later are moved back to here. head, beyond: what stands for the places before the timeline and
    behind it (beyond, the window's own positions, n, c); BLACK is a black frame, or one of the
    mean colour with `mean_colour`. centred: a row stands for the centre of its window. check:
    UsageError for windows that the rule cannot cut.

    In one pass, while n grows: `reach`: positions after a window's start that must be known before
    the window is certain. spare: the oldest position that the end may still take. wants: whether
    the end may take a position that no window samples. counted: `n` must be known beforehand, in
    a pass of its own, and `rows` be given. limit: most rows by the header's seconds.
    """

    count: Callable[[int, WindowSizes], int]
    start: Callable[[int, int, WindowSizes], int] = _every_step
    latest: Callable[[int, WindowSizes], int] | None = None
    head: int = BLACK
    beyond: Callable[[Sequence[int], Sequence[int], int, WindowSizes], list[int]] = _last
    mean_colour: bool = False
    centred: bool = False
    check: Callable[[WindowSizes], None] = lambda c: None
    reach: Callable[[WindowSizes], int] = lambda c: c.span
    spare: Callable[[int, WindowSizes], int] = lambda n, c: n
    wants: Callable[[int, int, WindowSizes], bool] = lambda position, n, c: False
    counted: bool = False
    limit: Callable[[float, WindowSizes], int] | None = None


def _centred(*, head: int, mean_colour: bool = False) -> TailRule:
    """Black beyond both ends where the head is black, else the frames at the ends."""
    return TailRule(
        count=_centres,
        start=_around_centre,
        head=head,
        beyond=_last if head == 0 else _black,
        reach=lambda c: c.frames * c.interval,
        # Clamping to the first frame needs it, though no window may sample it.
        wants=lambda position, n, c: position == head and _around_centre(0, n, c) < 0,
        centred=True,
        mean_colour=mean_colour,
    )


TAILS: dict[str, TailRule] = {
    "drop": TailRule(count=_full),
    "pad": TailRule(count=_needed),
    "loop": TailRule(count=_needed, beyond=_own_again),
    "zero": TailRule(count=_needed, beyond=_black),
    "backpad": TailRule(
        count=_covering,
        latest=lambda n, c: max(0, n - c.span),
        spare=lambda n, c: n - c.span,
        wants=_always,
    ),
    "backpad-open": TailRule(
        count=_begun,
        latest=lambda n, c: max(0, n - 1 - c.span),
        reach=lambda c: c.span + 1,
        spare=lambda n, c: n - 1 - c.span,
        wants=_always,
    ),
    "repeat-second": TailRule(
        count=_begun,
        beyond=_second_again,
        check=_whole_seconds,
        spare=_last_second,
        wants=_always,
        limit=_rows_of_header,
    ),
    "center": _centred(head=0),
    "center-zero": _centred(head=BLACK),
    "center-mean": _centred(head=BLACK, mean_colour=True),
    "uniform": TailRule(
        count=_fixed,
        start=_spread,
        beyond=_from_the_start,
        check=_no_stride,
        reach=_sampled,
        wants=lambda position, n, c: n < _sampled(c),
        counted=True,
    ),
}
