"""Seconds <-> rows, and annotation files of grounding datasets with rows added.

A row stands for one instant of its window; a moment [t0, t1) takes the rows whose instant lies in
it. The rules in use (`docs/alignment.md` says who uses which):

    center         center_s: (start_s + end_s) / 2; of a centred window the frame in its middle
    half-window    start_s + W/2, W the longest window: as center, also where the end is padded
    half-stride    start_s + S/2, S the distance of two starts
    window-start   start_s
    proportional   no instants: row of a time is t * n / duration, floor for t0 and ceil for t1

    window     |---------- W ----------|
    stride     |----- S -----|
               ^       ^     ^     ^
             start   S/2    next  W/2
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError, UsageError, did_you_mean

Rule = Literal["center", "half-window", "half-stride", "window-start", "proportional"]
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """When the rows of a video are: start_s, end_s [N]; duration_s of the whole video.

    center_s [N]: None for the mean of the two.
    """

    start_s: Times
    end_s: Times
    duration_s: float
    center_s: Times | None = None

    def __len__(self) -> int:
        return len(self.start_s)


def track_of(record: Mapping[str, Any]) -> Track:
    """The rows of a sidecar. Windows with time kept, [N, T', D], give T' rows of equal length each,
    as `pack` writes them. StoreError for a record without times."""
    try:
        start = np.asarray(record["start_s"], np.float64)
        end = np.asarray(record["end_s"], np.float64)
        shape = record["shape"]
        center = record.get("center_s")
    except KeyError as error:
        raise StoreError(f"this record has no {error}: not a feature file's JSON") from error
    if len(shape) == 3 and shape[1] > 1:
        part = (end - start)[:, None] / shape[1]
        steps = np.arange(shape[1] + 1)
        edges = start[:, None] + part * steps
        start, end, center = edges[:, :-1].reshape(-1), edges[:, 1:].reshape(-1), None
    duration_s = duration_of(record, float(end[-1]) if len(end) else 0.0)
    return Track(start, end, duration_s, None if center is None else np.asarray(center, np.float64))


def duration_of(record: Mapping[str, Any], last_end_s: float) -> float:
    """l / fps of the decoded frames where they are counted, else what the header says."""
    part = record.get("range_s") or (None, None)
    if any(edge is not None for edge in part):
        return last_end_s
    frames, fps = record.get("decoded_frames"), record.get("fps_exact") or record.get("fps")
    decoded = float(frames / Fraction(fps)) if frames and fps else 0.0
    return max(decoded, last_end_s) or float(record.get("duration_s") or 0.0)


def check_rule(rule: str) -> Rule:
    """UsageError for a rule that does not exist."""
    known: tuple[Rule, ...] = get_args(Rule)
    for name in known:
        if name == rule:
            return name
    raise UsageError(
        f"rule {rule!r} is unknown; it is one of {', '.join(known)}{did_you_mean(rule, known)}"
    )


def instants(track: Track, rule: Rule) -> Times:
    """The instant of every row in seconds [N]; under `proportional`, the middle of its share."""
    n = len(track)
    if rule == "window-start" or not n:
        return track.start_s
    if rule == "half-window":
        return track.start_s + float((track.end_s - track.start_s).max()) / 2
    if rule == "half-stride":
        # A last window that was moved back starts less than a stride after the one before it.
        steps = np.diff(track.start_s)
        length = float(steps.max()) if n > 1 else float(track.end_s[0] - track.start_s[0])
        return track.start_s + length / 2
    if rule == "proportional":
        return (np.arange(n) + 0.5) * track.duration_s / n
    return (track.start_s + track.end_s) / 2 if track.center_s is None else track.center_s


def tau(track: Track, t: float) -> float:
    """The fractional row of a time: t * n / duration (n features of l frames: t * n * fps / l)."""
    return t * len(track) / track.duration_s if track.duration_s else 0.0


def rows_in(track: Track, t0: float, t1: float, rule: Rule = "center") -> tuple[int, int]:
    """Rows [first, stop) of the moment [t0, t1) in seconds; first == stop where there is none."""
    n = len(track)
    if rule == "proportional":
        first = min(max(math.floor(tau(track, t0)), 0), n)
        return first, max(first, min(math.ceil(tau(track, t1)), n))
    times = instants(track, rule)
    first, stop = np.searchsorted(times, [t0, t1], side="left")
    return int(first), max(int(first), int(stop))


def nearest_row(track: Track, t: float, rule: Rule = "center") -> int | None:
    """The row whose instant is nearest to t, the earlier on a tie; None without rows."""
    if not len(track):
        return None
    return int(np.argmin(np.abs(instants(track, rule) - t)))


def seconds_in(track: Track, first: int, stop: int) -> tuple[float, float]:
    """What the rows [first, stop) cover: the start of the first, the end of the last, in seconds.

    UsageError for rows that do not exist.
    """
    if not 0 <= first < stop <= len(track):
        raise UsageError(
            f"rows {first}:{stop}: there are {len(track)}; need 0 <= first < stop <= {len(track)}"
        )
    return float(track.start_s[first]), float(track.end_s[first:stop].max())


@dataclass(frozen=True)
class Moment:
    """One annotation: a video's id and [start_s, end_s); duration_s where the file states it."""

    video: str
    start_s: float
    end_s: float
    duration_s: float | None = None


@dataclass(frozen=True)
class Aligned:
    """A moment on its video's rows [first, stop).

    nearest: the row nearest to its middle. tau: fractional rows of its ends. notes: what is wrong
    with it; lost: it has no place in the video, or there are no features of it.
    """

    first: int
    stop: int
    nearest: int | None
    tau: tuple[float, float]
    notes: tuple[str, ...] = ()
    lost: bool = False

    def record(self) -> dict[str, Any]:
        """As it is written into annotation files."""
        plain: dict[str, Any] = {
            "rows": [self.first, self.stop],
            "nearest": self.nearest,
            "tau": [round(value, 6) for value in self.tau],
        }
        if self.notes:
            plain["notes"] = list(self.notes)
        return plain


SLACK_S = 1.0
"""An annotated duration further than this from the video's is worth a note."""


def align(moment: Moment, track: Track | None, rule: Rule = "center") -> Aligned:
    """Find a moment's rows. Nothing is raised: what is wrong is in the notes."""
    if track is None:
        return Aligned(0, 0, None, (0.0, 0.0), ("no features of this video",), lost=True)
    t0, t1, duration = moment.start_s, moment.end_s, track.duration_s
    notes: list[str] = []
    stated = moment.duration_s
    if stated is not None and abs(stated - duration) > SLACK_S:
        notes.append(f"annotated for {stated:.2f} s, the video has {duration:.2f} s")
    if not (math.isfinite(t0) and math.isfinite(t1)) or t1 <= t0:
        notes.append(f"not a moment: from {t0} to {t1}")
        return Aligned(0, 0, None, (0.0, 0.0), tuple(notes), lost=True)
    if t0 >= duration or t1 <= 0:
        notes.append(f"outside the video: {t0:.2f} - {t1:.2f} of {duration:.2f} s")
        ends = (tau(track, t0), tau(track, t1))
        return Aligned(0, 0, None, ends, tuple(notes), lost=True)
    if t1 > duration:
        notes.append(f"ends {t1 - duration:.2f} s after the video")
    if t0 < 0:
        notes.append(f"starts {-t0:.2f} s before the video")
    low, high = max(t0, 0.0), min(t1, duration)
    first, stop = rows_in(track, t0, t1, rule)
    if first == stop:
        notes.append("no row's instant lies in it; see nearest")
    nearest = nearest_row(track, (low + high) / 2, rule)
    return Aligned(first, stop, nearest, (tau(track, low), tau(track, high)), tuple(notes))
