"""`tubelet extract`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from tubelet.cli.options import (
    DEBUG,
    DEFAULT_MODEL,
    FLOW_OPTIONS,
    FRAME_OPTIONS,
    MODELS,
    PRESET,
    VIEW_OPTIONS,
    WEIGHTS,
    WINDOW_OPTIONS,
    flow_of,
    inputs_of,
    stacked,
    typed,
    view_of,
    windows_of,
    with_preset,
)
from tubelet.cli.places import OutPlace
from tubelet.errors import UsageError
from tubelet.store.remote.objects import ObjectFolder


@click.command(name="extract")
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "-o", "--out", required=True, type=OutPlace(), help="Output folder, or s3://bucket/folder."
)
@MODELS
@PRESET
@WEIGHTS
@stacked(FRAME_OPTIONS, WINDOW_OPTIONS, VIEW_OPTIONS, FLOW_OPTIONS)
@click.option("--color", type=click.Choice(["auto", "legacy601"]), default="auto")
@click.option("--taps", default="pool", show_default=True, help="Comma-separated taps.")
@click.option("--keep", type=click.Choice(["clip", "time", "space-time"]), default="clip")
@click.option("--logits", is_flag=True, help="Store class scores (before softmax) too.")
@click.option("--keep-views", is_flag=True, help="Keep crops and flips instead of averaging.")
@click.option(
    "--format",
    "fmt",
    default="npy",
    show_default=True,
    help="npy, npz, hdf5 (tubelet[hdf5]) or parquet (tubelet[parquet]).",
)
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16", "auto"]),
    default="fp32",
    show_default=True,
    help="auto: bf16 where CPU or GPU have units for it (cosine with the float32 row >= 0.999).",
)
@click.option(
    "--runtime",
    type=click.Choice(["fast", "reference", "compile"]),
    default="fast",
    show_default=True,
    help="fast: networks rebuilt for inference, equal within rounding; reference: as they read; "
    "compile: torch.compile, slower on CPUs, not timed on GPUs.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:N, mps; cuda:0,1 runs a process on each.",
)
@click.option(
    "--batch-size",
    type=int,
    default=1,
    show_default=True,
    help="Windows per forward pass, of several videos if need be. Above 1 the last bits of a row "
    "may depend on its neighbours.",
)
@click.option("--workers", type=int, default=1, show_default=True, help="Processes.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray (tubelet[ray]): decoders and models as actors of a Ray cluster.",
)
@click.option("--ray-address", help="auto, or HOST:PORT. [starts Ray on this machine]")
@click.option(
    "--gpus-per-worker",
    type=click.FloatRange(0),
    help="With --engine ray: GPUs of a worker; 0.5 puts two on each. [1 where the device is cuda, "
    "else 0]",
)
@click.option(
    "--part-seconds",
    type=click.FloatRange(0, min_open=True),
    default=300,
    show_default=True,
    help="With --engine ray: videos of two such parts or more are shared by several workers.",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Only share I (from 0) of N: disjoint, balanced by duration. For N machines.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="CPU threads of each process. Their number may change last bits; that of workers does "
    "not. [as torch chooses]",
)
@click.option(
    "--timeout",
    type=float,
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="A video that gives no frame (or no row, once per clip of a batch) for so long is given "
    "up: its reader is killed. 0: no limit, and with one worker no second process.",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first failed input.")
@click.option("--retry-failed", is_flag=True, help="Only inputs that are in failures.jsonl.")
@click.option("--strict", is_flag=True, help="A damaged video is a failure.")
@click.option("--overwrite", is_flag=True, help="Do everything again; take OUT over.")
@click.option(
    "--debug-frames",
    type=int,
    default=0,
    metavar="N",
    help="Contact sheets of what the model saw, for the first N windows of each video.",
)
@click.option("--json", "as_json", is_flag=True, help="A machine-readable summary on stdout.")
@DEBUG
def command(inputs: tuple[str, ...], out: Path | ObjectFolder, **choices: Any) -> int:
    """Features of INPUTS: files, folders, globs, lists (.txt, .csv, .jsonl with id, start, end),
    URLs, tar archives, folders of frames (with --frames-fps).

    One <id>.npy [N, D] and one <id>.json per video. A second run does what is missing; runs that
    share OUT share the work.

    Example: tubelet extract videos/ -o features/ -m i3d_inception.k400 --stride 16
    """
    choices = with_preset(choices)
    from tubelet.cli.interrupt import GracefulStop
    from tubelet.cli.progress import Progress
    from tubelet.models.device import device_list, faster_precision
    from tubelet.run.processes.start import warm_up
    from tubelet.run.run import Job, run
    from tubelet.run.share.shard import parse_shard
    from tubelet.store.folder import codec_of

    codec_of(choices["fmt"])
    devices = device_list(choices["device"])
    job = Job(
        inputs_of(
            inputs, frames_fps=choices["frames_fps"], frames_pattern=choices["frames_pattern"]
        ),
        out,
        fmt=choices["fmt"],
        overwrite=choices["overwrite"],
        strict=choices["strict"],
        fail_fast=choices["fail_fast"],
        retry_failed=choices["retry_failed"],
        workers=choices["workers"],
        debug_frames=choices["debug_frames"],
        debug=choices["debug"],
        shard=parse_shard(choices["shard"]) if choices["shard"] else None,
        devices=devices,
        timeout=choices["timeout"],
    )
    engine = engine_of(choices, devices)
    if job.timeout and engine is None:
        warm_up()
    if choices["threads"] is not None:
        import torch

        torch.set_num_threads(choices["threads"])
    extractors = build_extractors({**choices, "device": devices[0]})
    parts = choices["engine"] == "ray"
    with Progress(len(job.inputs)) as progress, GracefulStop(progress, parts=parts) as stop:
        faster = faster_precision(extractors[0].precision, devices[0])
        if faster and not typed("precision"):
            progress.hint = faster
        failures = run(
            job, extractors, stop, engine, stopping=lambda: stop.asked, works=progress.works
        )
    print(progress.summary(), file=sys.stderr)
    if choices["as_json"]:
        click.echo(json.dumps({"out": getattr(out, "url", str(out)), **progress.counts()}))
    if stop.asked:
        raise KeyboardInterrupt
    return 1 if failures else 0


def engine_of(choices: dict[str, Any], devices: Sequence[str]) -> Any:
    """What does the work; None for processes of this machine. UsageError for options that would
    have no effect, and
    where Ray is not installed."""
    if choices["engine"] == "local":
        given = [k for k in ("ray_address", "gpus_per_worker", "part_seconds") if typed(k)]
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')} is for --engine ray; name that too")
        return None
    if len(devices) > 1:
        raise UsageError(
            f"--device {choices['device']} shares this machine's devices out, and --engine ray "
            f"those of its cluster: say --device {devices[0].split(':')[0]} --workers "
            f"{len(devices)}"
        )
    from tubelet.run.ray import Cluster, check_answers, run_ray

    address = choices["ray_address"] or os.environ.get("RAY_ADDRESS")
    if address:
        check_answers(address)
    gpus = choices["gpus_per_worker"]
    if gpus is None:
        gpus = float(devices[0].startswith("cuda"))
    cluster = Cluster(choices["ray_address"], gpus=gpus, part_s=choices["part_seconds"])
    return partial(run_ray, cluster=cluster)


def build_extractors(choices: dict[str, Any]) -> list[Any]:
    """One `Extractor` per -m."""
    from tubelet.extraction.extractor import Extractor, Options
    from tubelet.models.registry import create_model

    names = choices["models"] or (DEFAULT_MODEL,)
    weights = {"weights": choices["weights"]} if choices["weights"] else {}
    loaded = [create_model(name, **weights) for name in names]
    clips = [model.clip for model in loaded]
    options = Options(
        taps=tuple(t.strip() for t in choices["taps"].split(",") if t.strip()),
        keep=choices["keep"],
        logits=choices["logits"],
        merge="keep" if choices["keep_views"] else "mean",
        precision=choices["precision"],
        color=choices["color"],
        dtype=choices["dtype"],
        preset=choices["preset"],
        flow=flow_of(clips, choices),
        flow_cache=choices["flow_cache"],
    )
    windows = windows_of(clips, choices)
    return [
        Extractor(
            model,
            name=name,
            window=window,
            view=view_of(model.clip, choices),
            options=options,
            device=choices["device"],
            batch_size=choices["batch_size"],
            runtime=choices["runtime"],
        )
        for name, model, window in zip(names, loaded, windows, strict=True)
    ]
