"""Options that several verbs share. Parameters are called as the fields of `request` are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from tubelet.cli.request import DEFAULT_MODEL
from tubelet.clips.tails import TAILS
from tubelet.clips.windows import parse_fps
from tubelet.inputs.types import Input

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

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
        "--fps",
        default="native",
        show_default=True,
        callback=lambda ctx, parameter, text: parse_fps(text),
        help="native, or a rate such as 30.",
    ),
    click.option("--window", "frames", type=int, help="W: frames of a window. [the model's]"),
    click.option("--interval", type=int, help="K: take every K-th frame. [the model's]"),
    click.option("--stride", type=int, help="S: frames between windows. [W*K, no overlap]"),
    click.option(
        "--tail",
        type=click.Choice(list(TAILS)),
        default="pad",
        show_default=True,
        help="What becomes of the incomplete last window.",
    ),
    click.option(
        "--row-count",
        "rows",
        type=click.IntRange(1),
        help="This many windows, spread over each video, however long it is (--tail uniform).",
    ),
]
VIEW_OPTIONS: list[Decorator] = [
    click.option("--short-side", type=int, help="Resize the short side to this. [the model's]"),
    click.option("--crop", type=int, help="Side of the square crop. [the model's]"),
    click.option(
        "--crops",
        type=click.Choice(["1", "3", "5", "10"]),
        default="1",
        show_default=True,
        callback=lambda ctx, parameter, text: int(text),
        help="1: centre; 3: along the longer side; 5: corners and centre; 10: these five, then "
        "mirrored.",
    ),
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


def stacked(*groups: list[Decorator]) -> Decorator:
    """Apply option decorators so that --help lists them in the written order."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return apply


STORED_OPTIONS: list[Decorator] = [
    click.option("--color", type=click.Choice(["auto", "legacy601"]), default="auto"),
    click.option(
        "--taps",
        default="pool",
        show_default=True,
        callback=lambda ctx, parameter, text: tuple(
            t.strip() for t in text.split(",") if t.strip()
        ),
        help="Comma-separated taps.",
    ),
    click.option("--keep", type=click.Choice(["clip", "time", "space-time"]), default="clip"),
    click.option("--logits", is_flag=True, help="Store class scores (before softmax) too."),
    click.option("--keep-views", is_flag=True, help="Keep crops and flips instead of averaging."),
    click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32"),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "fp16", "auto"]),
        default="fp32",
        show_default=True,
        help="auto: bf16 where CPU or GPU have units for it (cosine with the float32 row >= "
        "0.999).",
    ),
]


def run_options(*, hidden: bool = False) -> list[Decorator]:
    """How a run is done. None of them changes which rows there are: `plan` takes and hides them."""
    option = partial(click.option, hidden=hidden)
    return [
        option(
            "--format",
            "fmt",
            default="npy",
            show_default=True,
            help="npy, npz, hdf5 (tubelet[hdf5]) or parquet (tubelet[parquet]).",
        ),
        option(
            "--runtime",
            type=click.Choice(["fast", "reference", "compile"]),
            default="fast",
            show_default=True,
            help="fast: networks rebuilt for inference, equal within rounding; reference: as they "
            "read; compile: torch.compile, slower on CPUs, not timed on GPUs.",
        ),
        option(
            "--device",
            default="auto",
            show_default=True,
            help="cpu, cuda, cuda:N, mps; cuda:0,1 runs a process on each.",
        ),
        option(
            "--batch-size",
            type=int,
            default=1,
            show_default=True,
            help="Windows per forward pass, of several videos if need be. Above 1 the last bits "
            "of a row may depend on its neighbours.",
        ),
        option("--workers", type=int, default=1, show_default=True, help="Processes."),
        option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="ray (tubelet[ray]): decoders and models as actors of a Ray cluster.",
        ),
        option("--ray-address", help="auto, or HOST:PORT. [starts Ray on this machine]"),
        option(
            "--gpus-per-worker",
            type=click.FloatRange(0),
            help="With --engine ray: GPUs of a worker; 0.5 puts two on each. [1 where the device "
            "is cuda, else 0]",
        ),
        option(
            "--part-seconds",
            type=click.FloatRange(0, min_open=True),
            default=300,
            show_default=True,
            help="With --engine ray: videos of two such parts or more are shared by several "
            "workers.",
        ),
        option(
            "--shard",
            metavar="I/N",
            help="Only share I (from 0) of N: disjoint, balanced by duration. For N machines.",
        ),
        option(
            "--threads",
            type=click.IntRange(1),
            help="CPU threads of each process. Their number may change last bits; that of workers "
            "does not. [as torch chooses]",
        ),
        option(
            "--timeout",
            type=float,
            default=600,
            show_default=True,
            metavar="SECONDS",
            help="A video that gives no frame (or no row, once per clip of a batch) for so long "
            "is given up: its reader is killed. 0: no limit, and with one worker no second "
            "process.",
        ),
        option("--fail-fast", is_flag=True, help="Stop at the first failed input."),
        option("--retry-failed", is_flag=True, help="Only inputs that are in failures.jsonl."),
        option("--strict", is_flag=True, help="A damaged video is a failure."),
        option("--overwrite", is_flag=True, help="Do everything again; take OUT over."),
        option(
            "--debug-frames",
            type=int,
            default=0,
            metavar="N",
            help="Contact sheets of what the model saw, for the first N windows of each video.",
        ),
    ]
