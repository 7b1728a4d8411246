"""Where the reference puts its evaluation views on a video (`classify --views`, `evaluate`).

This is not how features are cut (see `clips/windows.py`): a view's frames are spread over a span
that is scaled by the video's rate, so that a clip always lasts W*K/30 seconds. From PySlowFast's
samplers, `preprocess.json` of the conformance data.
"""

from __future__ import annotations

import math
from itertools import pairwise

from tubelet.clips.windows import linspace_indices
from tubelet.types import ClipSpec

TARGET_FPS = 30.0


def dense_span(n: int, fps: float, clip: ClipSpec, *, view: int, views: int) -> tuple[float, float]:
    """First and last (fractional) frame of view `view` of `views`, for a video of n frames.

    Views start at equal distances; with offset sampling the first and last touch the ends.
    """
    size = max(1.0, clip.interval * clip.frames / TARGET_FPS * fps)
    room = max(n - size, 0)
    if clip.sampling != "dense-offset":
        start = room * view / views
    elif views == 1:
        start = float(math.floor(room / 2))
    else:
        start = float(view * math.floor(room / (views - 1)))
    return start, start + size - 1


def uniform_indices(n: int, count: int) -> list[int]:
    """The middle frame of each of `count` equal segments of n frames (Something-Something)."""
    length = (n - 1) / count
    edges = [round(length * i) for i in range(count + 1)]
    return [(a + b) // 2 for a, b in pairwise(edges)]


def strided_indices(n: int, clip: ClipSpec, *, view: int, views: int) -> list[int]:
    """Every K-th frame from starts at equal distances, native rate, clamped (Charades)."""
    length = clip.interval * (clip.frames - 1) + 1
    start = round(max(n - length, 0) / max(views - 1, 1) * view)
    return [min(start + i * clip.interval, n - 1) for i in range(clip.frames)]


def view_indices(n: int, fps: float, clip: ClipSpec, *, view: int, views: int) -> list[int]:
    """Frame indices [W] of one evaluation view of a video of n frames at `fps`."""
    if clip.sampling == "uniform":
        return uniform_indices(n, clip.frames)
    if clip.sampling == "every-kth":
        return strided_indices(n, clip, view=view, views=views)
    start, end = dense_span(n, fps, clip, view=view, views=views)
    return linspace_indices(start, end, clip.frames, n - 1)
