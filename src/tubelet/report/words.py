"""A recipe in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Recipe = Mapping[str, Any]

TAILS = {
    "drop": "an incomplete window at the end is dropped",
    "pad": "an incomplete window at the end is filled up with the last frame",
    "loop": "an incomplete window at the end is filled up with its own frames again",
    "zero": "an incomplete window at the end is filled up with black frames",
    "backpad": "the last window is moved back to end with the video",
}
KEEPS = {
    "clip": "the mean over time and space",
    "time": "the mean over space; time is kept",
    "space-time": "the whole map over time and space",
}


def sentences(recipe: Recipe, run: Recipe) -> list[tuple[str, str]]:
    """(topic, sentence) pairs that say how rows were made."""
    return [
        ("Network", _network(recipe)),
        ("Windows", _windows(recipe["window"])),
        ("Pixels", _pixels(recipe)),
        *([("Flow", _flow(recipe["flow"]))] if recipe.get("flow") else []),
        ("Numbers", _numbers(recipe)),
        ("Made on", _run(run)),
    ]


def _network(recipe: Recipe) -> str:
    weights = recipe["weights"]
    origin = f"released weights {weights['id']}" if weights.get("id") else "weights from a file"
    preset = f", by the preset {recipe['preset']}" if recipe.get("preset") else ""
    return f"{recipe['model']}, {origin}, sha256 {str(weights.get('sha256'))[:12]}…{preset}"


def _windows(window: Recipe) -> str:
    frames, interval = window["frames"], window.get("interval", 1)
    span = window.get("length") or frames * interval
    stride = window.get("stride") or span
    taken = "every frame" if interval == 1 else f"every {ordinal(interval)} frame"
    fps = window.get("fps")
    line = f"of a timeline at {fps} frames per second" if fps else "of the video's own frames"
    overlap = "" if stride >= span else f", so that windows share {span - stride} frames"
    tail = TAILS.get(window["tail"], f"the tail rule is {window['tail']}")
    return (
        f"A row is {frames} frames, {taken} {line} ({span} frames of timeline); "
        f"a row starts every {stride} frames{overlap}; {tail}"
    )


def _pixels(recipe: Recipe) -> str:
    view = recipe["view"]
    fit = {
        "short-side": f"The short side is resized to {view['short_side']} pixels",
        "enlarge": f"Frames with a short side under {view['short_side']} pixels are enlarged to it",
        "stretch": f"Frames are stretched to {view['short_side']} × {view.get('long_side')}",
    }[view.get("fit", "short-side")]
    crops = "one centre crop" if view.get("crops", 1) == 1 else "three crops"
    mirrored = ", each mirrored too" if view.get("flip") else ""
    kind = "rounded to levels" if view.get("resize") == "uint8" else "in floating point"
    colour = {
        "auto": "colours by the video's own tags",
        "legacy601": "colours by the 601 matrix whatever the tags say",
    }[recipe.get("color", "auto")]
    mean, std = (", ".join(f"{v:g}" for v in view[k]) for k in ("mean", "std"))
    return (
        f"{fit}, bilinear without antialias, {kind}; {crops} of {view['crop']} × {view['crop']}"
        f"{mirrored}; RGB, {colour}; minus mean ({mean}), divided by ({std})"
    )


def _flow(flow: Recipe) -> str:
    more = ", ".join(f"{k} {v}" for k, v in flow.items() if k != "method")
    return f"{flow['method']} ({more})"


def _numbers(recipe: Recipe) -> str:
    taps = recipe["taps"]
    others = f"; also {', '.join(taps[1:])}" if len(taps) > 1 else ""
    scores = "; class scores are stored" if recipe.get("logits") else ""
    kept = "; crops and flips are kept apart" if recipe.get("merge") == "keep" else ""
    return (
        f"The tap {taps[0]}: {KEEPS[recipe['keep']]}; {recipe['dtype']}, "
        f"computed in {recipe['precision']}{others}{scores}{kept}"
    )


def _run(run: Recipe) -> str:
    versions = ", ".join(f"{k} {run[k]}" for k in ("tubelet", "torch", "numpy", "av") if k in run)
    return f"{run.get('device') or 'unknown device'}, with {versions or 'unknown versions'}"


def ordinal(n: int) -> str:
    """2 -> 2nd"""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def clock(seconds: float | None) -> str:
    """7.25 -> 7.2 s; 65.25 -> 1:05; None -> unknown length"""
    if seconds is None:
        return "unknown length"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def span(start_s: float, end_s: float) -> str:
    """4.0 – 6.3 s; 59.0 s – 1:02"""
    start = clock(start_s)
    return f"{start.removesuffix(' s') if end_s < 60 else start} – {clock(end_s)}"


def count(n: int, thing: str) -> str:
    """1 row, 2 rows; thousands apart"""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"
