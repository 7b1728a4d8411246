"""`tubelet plan`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import click
import numpy as np

from tubelet.cli.flow_time import flow_words
from tubelet.cli.options import (
    DEBUG,
    FLOW_OPTIONS,
    FRAME_OPTIONS,
    MODELS,
    PRESET,
    STORED_OPTIONS,
    VIEW_OPTIONS,
    WEIGHTS,
    WINDOW_OPTIONS,
    inputs_of,
    run_options,
    stacked,
)
from tubelet.cli.output import echo_json
from tubelet.cli.places import OutPlace
from tubelet.cli.request import extract_request
from tubelet.clips.transform import ViewConfig
from tubelet.clips.windows import RowTimes, WindowConfig
from tubelet.errors import TubeletError, UsageError
from tubelet.inputs.types import Input
from tubelet.types import ClipSpec, VideoInfo, Window


@click.command(name="plan")
@click.argument("inputs", nargs=-1, required=True)
@MODELS
@PRESET
@WEIGHTS
@stacked(
    FRAME_OPTIONS,
    WINDOW_OPTIONS,
    VIEW_OPTIONS,
    FLOW_OPTIONS,
    STORED_OPTIONS,
    run_options(hidden=True),
)
@click.option("-o", "--out", type=OutPlace(), hidden=True)
@click.option("--rows", "list_rows", is_flag=True, help="Every row with its frames and times.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per video and model.")
@DEBUG
def command(inputs: tuple[str, ...], list_rows: bool, as_json: bool, **choices: Any) -> int:
    """What extract would do with INPUTS: windows, rows, sizes. Reads packets, decodes no pixels.
    Takes every option of extract.

    Counts are exact for intact files; `~` marks those that decoding may correct, with the reason.

    Example: tubelet plan videos/ -m i3d_inception.k400 --stride 16 --rows
    """
    from tubelet.inputs import on_disk

    request = extract_request(choices)
    names, how = request.rows.models, request.rows.how
    facts_of = {name: model_facts(name) for name in names}
    clips = [facts_of[name].clip for name in names]
    windows = how.windows(clips)
    costs = {
        name: row_gmacs(facts_of[name], config, how.view(facts_of[name].clip))
        for name, config in zip(names, windows, strict=True)
    }
    flow, pairs = request.rows.flow(clips), 0
    size = 4 if how.dtype == "float32" else 2
    failed, total = 0, {"videos": 0, "rows": 0, "seconds": 0.0, "bytes": 0}
    work = dict.fromkeys(names, 0)
    items = inputs_of(inputs, frames_fps=request.frames_fps, frames_pattern=request.frames_pattern)
    for item in items:
        try:
            with on_disk(item) as path:
                facts = timeline_facts(path, item)
        except UsageError:
            raise
        except TubeletError as error:
            failed += 1
            print(f"{item.id}: cannot be read: {error}", file=sys.stderr)
            continue
        if facts["warning"]:
            print(f"{item.id}: {facts['warning']}", file=sys.stderr)
        total["videos"] += 1
        total["seconds"] += facts["duration_s"]
        moving: set[int] = set()
        for name, config in zip(names, windows, strict=True):
            record = plan_record(item.id, name, facts, config)
            if "flow" in facts_of[name].clip.modality:
                moving.update(f for row in record["windows"] for f in row["frames"])
            record["bytes"] = len(record["windows"]) * facts_of[name].width * size
            total["rows"] += len(record["windows"])
            total["bytes"] += record["bytes"]
            work[name] += len(record["windows"])
            _print(record, rows=list_rows, as_json=as_json)
        moving.discard(-1)  # a black frame
        pairs += min(len(moving), max(0, len(facts["times"]) - 1))
    if not as_json:
        estimates = [
            estimate(facts_of[name], work[name], costs[name], request.rows.precision)
            for name in names
        ]
        click.echo(
            f"{total['videos']} videos, {total['seconds'] / 3600:.2f} hours, {total['rows']} rows, "
            f"{total['bytes'] / 1e6:.1f} MB of features; {duration(estimates)}"
            + (flow_words(flow, pairs) if flow is not None else "")
        )
    return 1 if failed else 0


@dataclass(frozen=True)
class ModelFacts:
    """gmacs: multiply-adds of one clip, in 1e9; None where the table does not know."""

    name: str
    clip: ClipSpec
    width: int
    gmacs: float | None


def model_facts(name: str) -> ModelFacts:
    """What the table says of a model; of networks without an entry, what building them says."""
    from tubelet.models import zoo

    entry = zoo.find(name)
    if entry is not None:
        return ModelFacts(name, entry.clip, entry.width, entry.facts.get("gmacs"))
    from tubelet.models.registry import create_model

    model = create_model(name, weights=None)
    return ModelFacts(name, model.clip, model.width, None)


def row_gmacs(facts: ModelFacts, config: WindowConfig, view: ViewConfig) -> float | None:
    """Multiply-adds of one row: those of the table's clip, scaled to this one's pixels."""
    if facts.gmacs is None:
        return None
    pixels = config.frames * view.crop**2 / (facts.clip.frames * facts.clip.crop**2)
    return facts.gmacs * pixels * view.views


SHARE = 0.4
"""The share of a CPU's matrix-product rate that networks that nobody timed are taken to reach."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of one model's rows here; None where nothing is known. measured: by `bench`."""

    seconds: float | None
    measured: bool


def estimate(facts: ModelFacts, rows: int, gmacs: float | None, precision: str) -> Estimate:
    """From this machine's own measurement of the network, else from its multiply-adds."""
    from tubelet.bench.machine import seconds_per_clip

    timed = seconds_per_clip(facts.name, precision)
    if timed is not None:
        scale = gmacs / facts.gmacs if gmacs and facts.gmacs else 1.0
        return Estimate(rows * timed * scale, measured=True)
    if gmacs is None:
        return Estimate(None, measured=False)
    return Estimate(rows * gmacs / (matrix_rate() * SHARE), measured=False)


@cache
def matrix_rate() -> float:
    """Multiply-adds per second of a float32 matrix product, in 1e9."""
    side, times = 512, 3
    matrix = np.ones((side, side), np.float32)
    product = matrix @ matrix
    start = time.perf_counter()
    for _ in range(times):
        np.matmul(matrix, matrix, out=product)
    return times * side**3 / (time.perf_counter() - start) / 1e9


def duration(estimates: Sequence[Estimate]) -> str:
    """The time that all rows take here, in words, and what it was made from."""
    if any(e.seconds is None for e in estimates):
        return "no time estimate: the cost of this network is not in the table"
    seconds = sum(e.seconds or 0.0 for e in estimates)
    timed = sum(e.measured for e in estimates)
    guess = f"float32 networks at {SHARE:.0%} of its measured matrix-product rate"
    if timed == len(estimates):
        basis = "networks as `tubelet bench` timed them here"
    elif timed:
        basis = f"{timed} of {len(estimates)} networks as `tubelet bench` timed them here; {guess}"
    else:
        basis = f"{guess}; `tubelet bench` times them"
    basis = f"{basis}; decoding beside them"
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit} on this CPU ({basis})"
    return f"about {seconds:.0f} seconds on this CPU ({basis})"


def timeline_facts(path: str, item: Input) -> dict[str, Any]:
    """When the frames of an input's part appear, from packets only; the video is at `path`."""
    from tubelet.decode.base import scan_video
    from tubelet.inputs import beyond, seconds_of_range

    found = scan_video(path, fps=item.fps, pattern=item.pattern)
    start_s, end_s = seconds_of_range(item, path)
    times = [float(t) for t in found.times_s]
    inside = [
        i
        for i, t in enumerate(times)
        if (start_s is None or t >= start_s) and (end_s is None or t < end_s)
    ]
    ends = [*times[1:], found.end_s]
    warning = beyond(start_s, end_s, ends_s=found.end_s, name=item.shown)
    return {
        "times": [times[i] for i in inside],
        "end_s": ends[inside[-1]] if inside else 0.0,
        "first": inside[0] if inside else 0,
        "fps": found.fps,
        "stream_s": found.stream_s,
        "duration_s": ends[inside[-1]] - times[inside[0]] if inside else 0.0,
        "exact": found.exact,
        "reason": found.reason,
        "warning": warning,
    }


def plan_record(
    identity: str, model: str, facts: dict[str, Any], config: WindowConfig
) -> dict[str, Any]:
    """The rows of one video for one model."""
    from tubelet.clips.windows import plan_windows, row_times

    times, end_s = facts["times"], facts["end_s"]
    info = replace(_info(identity, facts["fps"], len(times)), stream_s=facts["stream_s"])
    windows = plan_windows(info, config, times, end_s)
    spans = row_times(windows, times, end_s, config, facts["fps"])
    return {
        "id": identity,
        "model": model,
        "frames": len(times),
        "duration_s": facts["duration_s"],
        "exact": facts["exact"],
        "reason": facts["reason"],
        "warning": facts["warning"],
        "rows": len(windows),
        "windows": [_row(w, s, facts["first"]) for w, s in zip(windows, spans, strict=True)],
    }


def _row(window: Window, times: RowTimes, first: int) -> dict[str, Any]:
    """Frame numbers are those of the whole video, whatever part of it was asked for."""
    frames = [f + first if f >= 0 else f for f in window.frames]
    return {**asdict(times), "frames": frames, "padded": window.padded}


def _info(path: str, fps: Fraction, frames: int) -> VideoInfo:
    return VideoInfo(
        path=path,
        width=0,
        height=0,
        fps=fps,
        frames=frames,
        duration_s=None,
        start_s=0.0,
        codec="",
        container="",
        pixel_format="",
        rotation=0,
        backend="scan",
        size_bytes=0,
    )


def _print(record: dict[str, Any], *, rows: bool, as_json: bool) -> None:
    if as_json:
        shown = record if rows else {k: v for k, v in record.items() if k != "windows"}
        echo_json(shown)
        return
    mark = "" if record["exact"] else "~"
    reason = "" if record["exact"] else f"  (~ {record['reason']})"
    click.echo(
        f"{record['id']}  {record['model']}  {mark}{record['frames']} frames, "
        f"{record['duration_s']:.2f} s -> {mark}{record['rows']} rows{reason}"
    )
    if rows:
        for i, row in enumerate(record["windows"]):
            click.echo(f"  row {i:5d}  {_times(row)}  {_frames(row['frames'])}")


def _times(row: dict[str, Any]) -> str:
    padded = f", {row['padded']} padded" if row["padded"] else ""
    return f"{row['start_s']:9.3f} - {row['end_s']:9.3f} s{padded}"


def _frames(frames: Sequence[int]) -> str:
    """A few frame numbers, enough to see the rule."""
    shown = [str(f) if f >= 0 else "black" for f in frames]
    if len(shown) > 8:
        shown = [*shown[:4], "...", *shown[-2:]]
    return "frames " + " ".join(shown)
