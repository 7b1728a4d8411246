"""Where a long video may be cut so that several workers share it: pure arithmetic on the plan.

    rows     0 1 2 3 | 4 5 6 7 | 8 9 10        cut at whole rows, evenly
    frames   [-------------)                   each part decodes the frames of its own rows, and
                    [-----------)              those up to the next part's first one; together
                          [-----------]        they see every frame of the video

The rows of a part are those that a pass over the whole gives, with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tubelet.clips.windows import WindowConfig, count_rows, offsets, place, row_limit, timeline
from tubelet.decode.scan import Timeline
from tubelet.extraction.lanes import Lane


@dataclass(frozen=True)
class Part:
    """Part `index` of `count`. rows: of each lane; first, stop: the frames that it decodes."""

    index: int
    count: int
    rows: tuple[range, ...]
    first: int
    stop: int


def cut(
    found: Timeline,
    lanes: Sequence[Lane],
    start_s: float | None,
    end_s: float | None,
    *,
    part_s: float,
) -> list[Part]:
    """The parts of [start_s, end_s) of a video, of about `part_s` seconds each.

    Nothing where it is too short for two, or where only a pass over the whole gives its rows: no
    entries (see `Timeline`), or windows that are spread over a counted timeline.
    """
    times = found.times_s.tolist()
    inside = [
        i
        for i, t in enumerate(times)
        if (start_s is None or t >= start_s) and (end_s is None or t < end_s)
    ]
    if found.entries is None or not inside or any(e.window.rows is not None for e in lanes):
        return []
    ends = [*times[1:], found.end_s]
    count = math.floor((ends[inside[-1]] - times[inside[0]]) / part_s)
    spans = [
        _frames_of_rows(e.window, e.flow is not None, [times[i] for i in inside], ends, found)
        for e in lanes
    ]
    count = min([count, *(len(own) for own in spans)])
    if count < 2:
        return []
    shares = [
        [range(n * i // count, n * (i + 1) // count) for i in range(count)] for n in map(len, spans)
    ]
    lows: list[int] = []
    highs: list[int] = []
    for i in range(count):
        needed = [own[k] for own, rows in zip(spans, shares, strict=True) for k in rows[i]]
        lows.append(min(low for low, _ in needed))
        highs.append(max(high for _, high in needed))
    firsts = [0, *(inside[0] + low for low in lows[1:])]
    stops = [
        max(inside[0] + high + 1, following)
        for high, following in zip(highs, [*firsts[1:], inside[-1] + 1], strict=True)
    ]
    return [
        Part(i, count, tuple(own[i] for own in shares), firsts[i], stops[i]) for i in range(count)
    ]


def _frames_of_rows(
    config: WindowConfig,
    pairs: bool,
    times: Sequence[float],
    ends: Sequence[float],
    found: Timeline,
) -> list[tuple[int, int]]:
    """(first, last) frame, of those at `times`, that each row needs.

    pairs: a position needs its successor too; the last one, which has none, its predecessor.
    """
    last_s = ends[found.times_s.tolist().index(times[-1])]
    shown = timeline(times, last_s, config)
    wanted = offsets(config, found.fps)
    n = len(shown)
    spans: list[tuple[int, int]] = []
    for k in range(count_rows(n, config, limit=row_limit(found.stream_s, config))):
        own = [p for p in place(k, n, config, wanted).positions if p >= 0]
        low, high = min(own) - pairs, max(own) + pairs
        spans.append((shown[max(low, 0)], shown[min(high, n - 1)]))
    return spans
