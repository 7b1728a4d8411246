"""Is an output folder what it says it is: bytes, shapes, numbers, times, and rows as planned."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tubelet.clips.tails import TAILS
from tubelet.clips.windows import RowTimes, WindowConfig, plan_windows, row_times
from tubelet.decode.base import scan_video
from tubelet.errors import StoreError, TubeletError
from tubelet.extraction.recipe import window_config
from tubelet.store.folder import CODECS, RESERVED
from tubelet.store.listing import Finished, read_folder
from tubelet.types import Features, VideoInfo

TIME_SLACK_S = 1e-6


@dataclass
class Verification:
    """problems and notes: (id, text). A problem is wrong; a note could not be checked or is odd."""

    videos: int = 0
    rows: int = 0
    planned: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    notes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def verify(path: Path, *, plan: bool = True) -> Verification:
    """Check every video of OUT; with `plan`, also against its source where that is at hand.

    UsageError where `path` is no output folder.
    """
    folder = read_folder(path)
    verdict = Verification()
    for identity in folder.ids:
        try:
            features = folder.load(identity)
            check_record(identity, features, centred=is_centred(folder))
        except StoreError as error:
            verdict.problems.append((identity, str(error)))
            continue
        verdict.videos += 1
        verdict.rows += len(features.values)
        if plan:
            _check_plan(folder, identity, features, verdict)
    verdict.notes += [(name, "failed, see failures.jsonl") for name in folder.failed]
    verdict.notes += [(name, "an array without a .json: unfinished") for name in _orphans(folder)]
    return verdict


def is_centred(folder: Finished) -> bool:
    """Whether the recipe's rows stand for the frame around which their window lies."""
    window = (folder.record.get("recipe") or {}).get("window") or {}
    rule = TAILS.get(str(window.get("tail")))
    return rule is not None and rule.centred


def check_record(identity: str, features: Features, *, centred: bool = False) -> None:
    """StoreError for arrays and a sidecar that disagree, and for numbers that cannot be.

    centred: rows stand for a frame, which padding at the edges moves away from their middle.
    """
    record = features.provenance
    if record.get("id") != identity:
        raise StoreError(f"its .json says that it is {record.get('id')!r}")
    if list(features.values.shape) != record.get("shape"):
        raise StoreError(f"shape {list(features.values.shape)}, recorded {record.get('shape')}")
    if str(features.values.dtype) != record.get("dtype"):
        raise StoreError(f"dtype {features.values.dtype}, recorded {record.get('dtype')}")
    n = len(features.values)
    logits = {} if features.logits is None else {"logits": features.logits}
    for name, values in {"pool": features.values, **features.taps, **logits}.items():
        if len(values) != n:
            raise StoreError(f"{name} has {len(values)} rows, pool has {n}")
        bad = np.flatnonzero(~np.isfinite(values.reshape(n, -1)).all(axis=1)) if n else []
        if len(bad):
            raise StoreError(f"{name}: NaN or infinity in row {bad[0]}")
    start, end, center = features.start_s, features.end_s, features.center_s
    for times in (start, end, center):
        if len(times) != n:
            raise StoreError(f"{len(times)} times for {n} rows")
    if not all(np.isfinite(times).all() for times in (start, end, center)):
        raise StoreError("a time is NaN or infinite")
    if (end <= start).any() or (np.diff(start) < 0).any():
        raise StoreError("times do not rise")
    if centred and ((center < start) | (center > end)).any():
        raise StoreError("center_s is not between start_s and end_s")
    if not centred and not np.allclose(center, (start + end) / 2, atol=TIME_SLACK_S):
        raise StoreError("center_s is not the mean of start_s and end_s")
    for name in ("padded", "first_last_frame"):
        if name in record and len(record[name]) != n:
            raise StoreError(f"{len(record[name])} entries of {name} for {n} rows")


def _check_plan(folder: Finished, identity: str, features: Features, verdict: Verification) -> None:
    """Rows against the plan of the source. What cannot be planned is a note."""
    record = features.provenance
    source = str(record.get("source"))
    if not source.startswith("synthetic:") and not os.path.exists(source):
        verdict.notes.append((identity, f"its source is not here ({source}): not planned"))
        return
    if os.path.isfile(source) and os.path.getsize(source) != record.get("size_bytes"):
        verdict.problems.append((identity, f"{source} has changed since; extract it again"))
        return
    try:
        config = window_config(folder.record["recipe"]["window"])
        rows, exact = planned(source, record, config)
    except (KeyError, TypeError, ValueError, TubeletError) as error:
        verdict.notes.append((identity, f"not planned: {error}"))
        return
    verdict.planned += 1
    difference = _difference(rows, features)
    if difference and (not exact or record.get("damaged")):
        verdict.notes.append((identity, f"{difference}; the file cannot be planned exactly"))
    elif difference:
        verdict.problems.append((identity, difference))


def _difference(rows: list[RowTimes], features: Features) -> str | None:
    """What distinguishes rows from their plan."""
    if len(rows) != len(features.values):
        return f"{len(features.values)} rows, planned are {len(rows)}"
    if not rows:
        return None
    wanted = np.array([astuple(row) for row in rows])
    got = np.stack([features.start_s, features.end_s, features.center_s], axis=1)
    off = np.flatnonzero((np.abs(wanted - got) > TIME_SLACK_S).any(axis=1))
    if not len(off):
        return None
    i = off[0]
    return (
        f"row {i} is {got[i][0]:.6f} - {got[i][1]:.6f} s around {got[i][2]:.6f} s, "
        f"planned is {wanted[i][0]:.6f} - {wanted[i][1]:.6f} s around {wanted[i][2]:.6f} s"
    )


def planned(
    source: str, record: Mapping[str, Any], config: WindowConfig
) -> tuple[list[RowTimes], bool]:
    """The times of every row, from packets only; whether that is exact."""
    rate, pattern = None, None
    if Path(source).is_dir():
        rate = Fraction(record.get("fps_exact") or record["fps"])
        pattern = record.get("frames_pattern")
    found = scan_video(source, fps=rate, pattern=pattern)
    start_s, end_s = record.get("range_s") or (None, None)
    times = [float(t) for t in found.times_s]
    ends = [*times[1:], found.end_s]
    inside = [
        i
        for i, t in enumerate(times)
        if (start_s is None or t >= start_s) and (end_s is None or t < end_s)
    ]
    if not inside:
        return [], found.exact
    shown, last = [times[i] for i in inside], ends[inside[-1]]
    info = VideoInfo(
        path=source,
        width=found.width,
        height=found.height,
        fps=found.fps,
        frames=len(shown),
        duration_s=None,
        start_s=0.0,
        codec=found.codec,
        container=found.container,
        pixel_format="",
        rotation=0,
        backend="scan",
        size_bytes=found.size_bytes,
        stream_s=found.stream_s,
    )
    windows = plan_windows(info, config, shown, last)
    return row_times(windows, shown, last, config, found.fps), found.exact


def _orphans(folder: Finished) -> Iterator[str]:
    """Arrays that no sidecar speaks of."""
    known = set(folder.ids)
    for file in sorted(folder.path.rglob("*")):
        below = file.relative_to(folder.path)
        if file.suffix[1:] not in CODECS or any(part.startswith(".") for part in below.parts):
            continue
        if below.parts[0] in RESERVED:
            skip = {"taps": 2}.get(below.parts[0], 1)
            below = Path(*below.parts[skip:]) if len(below.parts) > skip else below
        if below.as_posix().removesuffix(file.suffix) not in known:
            yield file.relative_to(folder.path).as_posix()
