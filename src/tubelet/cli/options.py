"""Options that several verbs share, and how they become configurations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tubelet.clips.tails import TAILS
from tubelet.clips.transform import ViewConfig, view_config
from tubelet.clips.windows import WindowConfig, parse_fps
from tubelet.errors import UsageError
from tubelet.flow.base import FlowConfig, flow_config
from tubelet.inputs.types import Input
from tubelet.types import ClipSpec

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

DEFAULT_MODEL = "i3d_inception.k400"

MODELS = click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    help=f"Model id; repeat for several. [{DEFAULT_MODEL}]",
)
PRESET = click.option(
    "--preset", help="A published convention, see `tubelet presets`; other options override it."
)
WEIGHTS = click.option(
    "--weights",
    help="A checkpoint file instead of the zoo's weights; rgb=FILE,flow=FILE for two streams.",
)
DEBUG = click.option("--debug", is_flag=True, help="Show tracebacks.")
DEVICE = click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps.")

WINDOW_OPTIONS: list[Decorator] = [
    click.option(
        "--fps", default="native", show_default=True, help="native, or a rate such as 30."
    ),
    click.option("--window", type=int, help="W: frames of a window. [the model's]"),
    click.option("--interval", type=int, help="K: take every K-th frame. [the model's]"),
    click.option("--stride", type=int, help="S: frames between windows. [W*K, no overlap]"),
    click.option(
        "--tail",
        type=click.Choice(list(TAILS)),
        default="pad",
        show_default=True,
        help="What becomes of the incomplete last window.",
    ),
]
VIEW_OPTIONS: list[Decorator] = [
    click.option("--short-side", type=int, help="Resize the short side to this. [the model's]"),
    click.option("--crop", type=int, help="Side of the square crop. [the model's]"),
    click.option("--crops", type=click.Choice(["1", "3"]), default="1", show_default=True),
    click.option("--flip", is_flag=True, help="Add the mirrored views."),
    click.option(
        "--resize",
        type=click.Choice(["float", "uint8"]),
        default="float",
        show_default=True,
        help="float: the reference's numbers; uint8: rounded to a level.",
    ),
]


FLOW_OPTIONS: list[Decorator] = [
    click.option(
        "--flow",
        help="Optical flow of models that take it: tvl1, dis, farneback or raft, with parameters "
        "as in dis:preset=fast. [tvl1]",
    ),
    click.option(
        "--flow-rounding",
        type=click.Choice(["none", "float16", "uint8"]),
        default="none",
        show_default=True,
        help="uint8: the 256 levels of the reference's flow files.",
    ),
    click.option("--flow-cache", type=click.Path(path_type=Path), help="Keep flows here."),
]


FRAME_OPTIONS: list[Decorator] = [
    click.option(
        "--frames-fps",
        metavar="RATE",
        help="Rate of folders of frames; a list may give each its own (column fps).",
    ),
    click.option(
        "--frames-pattern",
        metavar="NAME",
        help="Which files of such a folder are its frames, as in img_%05d.jpg. [by their numbers]",
    ),
]


def inputs_of(
    arguments: Sequence[str], *, frames_fps: str | None, frames_pattern: str | None
) -> list[Input]:
    """`inputs.collect` for these options. UsageError for a folder of frames without a rate."""
    from tubelet.decode.frames_dir import rate_of
    from tubelet.inputs import check_rates, collect

    rate = None if frames_fps is None else rate_of(frames_fps, where="--frames-fps")
    items = collect(arguments, frames_fps=rate, frames_pattern=frames_pattern)
    check_rates(items)
    return items


def typed(name: str) -> bool:
    """Whether an option was given on the command line, and not by a preset or default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def flow_of(clips: Sequence[ClipSpec], choices: dict[str, Any]) -> FlowConfig | None:
    """How flow is computed; None where no model takes it. UsageError where that makes the options
    pointless."""
    if any("flow" in clip.modality for clip in clips):
        return flow_config(choices["flow"] or "tvl1", rounding=choices["flow_rounding"])
    given = [k for k in ("flow", "flow_rounding", "flow_cache") if typed(k)]
    if given:
        name = given[0].replace("_", "-")
        raise UsageError(
            f"--{name}: none of these models takes optical flow; `tubelet models "
            "'i3d_inception_flow*'` and 'i3d_inception_two_stream*' list those that do"
        )
    return None


def stacked(*groups: list[Decorator]) -> Decorator:
    """Apply option decorators so that --help lists them in the written order."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return apply


def with_preset(choices: dict[str, Any]) -> dict[str, Any]:
    """What --preset says, under what the command line says. UnknownName for an unknown preset.

    "preset" becomes what the recipe tells of it: the name, and the options that override it.
    """
    if choices["preset"] is None:
        return choices
    from tubelet.presets import find

    context = click.get_current_context()
    preset = find(choices["preset"])
    given: list[str] = []
    merged = dict(choices)
    for name, value in preset.choices().items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            listed = name == "models" and set(choices[name]) <= set(preset.models)
            if choices[name] != value and not listed:
                given.append(name)
        else:
            merged[name] = value
    if preset.needs_weights and "models" not in given and not merged.get("weights", True):
        raise UsageError(
            f"preset {preset.name}: its weights are not public; name a file with --weights, or "
            "another model with -m"
        )
    overridden = f" (but {', '.join(sorted(given))})" if given else ""
    return {**merged, "preset": preset.name + overridden}


def windows_of(clips: list[ClipSpec], choices: dict[str, Any]) -> list[WindowConfig]:
    """One window configuration per model, over one plan.

    Each model keeps its own W and K; all share the stride, and the length that rows are counted
    with is the longest model's, so that row i starts at the same frame for all of them.
    """
    own = [
        WindowConfig(
            frames=clip.frames if choices["window"] is None else choices["window"],
            interval=clip.interval if choices["interval"] is None else choices["interval"],
            stride=choices["stride"],
            length=choices.get("length"),
            tail=choices["tail"],
            fps=parse_fps(choices["fps"]),
            resample=choices.get("resample", "hold"),
            index=choices.get("index", "every-kth"),
            rows=choices.get("row_count"),
        )
        for clip in clips
    ]
    length = max(config.span for config in own)
    return [c if c.span == length else replace(c, length=length) for c in own]


def view_of(clip: ClipSpec, choices: dict[str, Any]) -> ViewConfig:
    """The model's view with what the command line changes.

    Naming only one of short side and crop keeps the other, moved where it would not fit.
    """
    default = view_config(clip)
    crop, short = choices["crop"], choices["short_side"]
    if crop is None:
        crop = min(default.crop, short or default.crop)
    if short is None:
        short = max(default.short_side, crop)
    if crop > short:
        raise UsageError(f"--crop {crop} is larger than --short-side {short}")
    long = default.long_side  # of a model whose frames are squashed: keeps the shape
    if long is not None:
        long = round(long * short / default.short_side)
    return replace(
        default,
        short_side=short,
        crop=crop,
        crops=3 if choices["crops"] == "3" else 1,
        flip=choices["flip"],
        resize=choices["resize"],
        fit=choices.get("fit", default.fit),
        long_side=choices.get("long_side", long),
    )
