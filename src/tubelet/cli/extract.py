"""`tubelet extract`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
from tubelet.cli.places import OutPlace
from tubelet.cli.request import ExtractRequest, extract_request
from tubelet.errors import UsageError
from tubelet.store.remote.objects import ObjectFolder

if TYPE_CHECKING:
    from tubelet.extraction.extractor import Extractor
    from tubelet.run.job import Job


@click.command(name="extract")
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "-o", "--out", required=True, type=OutPlace(), help="Output folder, or s3://bucket/folder."
)
@MODELS
@PRESET
@WEIGHTS
@stacked(FRAME_OPTIONS, WINDOW_OPTIONS, VIEW_OPTIONS, FLOW_OPTIONS, STORED_OPTIONS, run_options())
@click.option("--json", "as_json", is_flag=True, help="A machine-readable summary on stdout.")
@DEBUG
def command(
    inputs: tuple[str, ...], out: Path | ObjectFolder, as_json: bool, **choices: Any
) -> int:
    """Features of INPUTS: files, folders, globs, lists (.txt, .csv, .jsonl with id, start, end),
    URLs, tar archives, folders of frames (with --frames-fps).

    One <id>.npy [N, D] and one <id>.json per video. A second run does what is missing; runs that
    share OUT share the work.

    Example: tubelet extract videos/ -o features/ -m i3d_inception.k400 --stride 16
    """
    request = extract_request(choices)
    from tubelet.cli.interrupt import GracefulStop
    from tubelet.cli.progress import Progress
    from tubelet.models.device import device_list, faster_precision
    from tubelet.run.processes.start import warm_up
    from tubelet.run.run import run

    devices = device_list(request.device)
    job = job_of(request, inputs, out, devices)
    engine = engine_of(request, devices)
    if job.timeout and engine is None:
        warm_up()
    if request.threads is not None:
        import torch

        torch.set_num_threads(request.threads)
    extractors = build_extractors(request, devices[0])
    parts = request.engine == "ray"
    with Progress(len(job.inputs)) as progress, GracefulStop(progress, parts=parts) as stop:
        faster = faster_precision(extractors[0].precision, devices[0])
        if faster and "precision" not in request.rows.given:
            progress.hint = faster
        failures = run(
            job, extractors, stop, engine, stopping=lambda: stop.asked, works=progress.works
        )
    print(progress.summary(), file=sys.stderr)
    if as_json:
        click.echo(json.dumps({"out": getattr(out, "url", str(out)), **progress.counts()}))
    if stop.asked:
        raise KeyboardInterrupt
    return 1 if failures else 0


def job_of(
    request: ExtractRequest,
    inputs: Sequence[str],
    out: Path | ObjectFolder,
    devices: tuple[str, ...],
) -> Job:
    """What the run has to do. UsageError for inputs and options that cannot be."""
    from tubelet.run.job import Job
    from tubelet.run.share.shard import parse_shard
    from tubelet.store.folder import codec_of

    codec_of(request.fmt)
    return Job(
        inputs_of(inputs, frames_fps=request.frames_fps, frames_pattern=request.frames_pattern),
        out,
        fmt=request.fmt,
        overwrite=request.overwrite,
        strict=request.strict,
        fail_fast=request.fail_fast,
        retry_failed=request.retry_failed,
        workers=request.workers,
        debug_frames=request.debug_frames,
        debug=request.debug,
        shard=parse_shard(request.shard) if request.shard else None,
        devices=devices,
        timeout=request.timeout,
    )


def engine_of(request: ExtractRequest, devices: Sequence[str]) -> Callable[..., Any] | None:
    """What does the work; None for processes of this machine.

    UsageError for options that would have no effect, and where Ray is not installed.
    """
    if request.engine == "local":
        for name in ("ray_address", "gpus_per_worker", "part_seconds"):
            if name in request.rows.given:
                raise UsageError(f"--{name.replace('_', '-')} is for --engine ray; name that too")
        return None
    if len(devices) > 1:
        raise UsageError(
            f"--device {request.device} shares this machine's devices out, and --engine ray "
            f"those of its cluster: say --device {devices[0].split(':')[0]} --workers "
            f"{len(devices)}"
        )
    from tubelet.run.ray import Cluster, check_answers, run_ray

    address = request.ray_address or os.environ.get("RAY_ADDRESS")
    if address:
        check_answers(address)
    gpus = request.gpus_per_worker
    if gpus is None:
        gpus = float(devices[0].startswith("cuda"))
    cluster = Cluster(request.ray_address, gpus=gpus, part_s=request.part_seconds)
    return partial(run_ray, cluster=cluster)


def build_extractors(request: ExtractRequest, device: str) -> list[Extractor]:
    """One `Extractor` per -m."""
    from tubelet.extraction.extractor import Extractor, Options
    from tubelet.models.registry import create_model

    rows, how = request.rows, request.rows.how
    loaded = [create_model(name, **rows.weights_choice) for name in rows.models]
    clips = [model.clip for model in loaded]
    options = Options(
        taps=rows.taps,
        keep=how.keep,
        logits=how.logits,
        merge="keep" if rows.keep_views else "mean",
        precision=rows.precision,
        color=rows.color,
        dtype=how.dtype,
        preset=rows.preset,
        flow=rows.flow(clips),
        flow_cache=rows.flow_cache,
    )
    return [
        Extractor(
            model,
            name=name,
            window=window,
            view=how.view(model.clip),
            options=options,
            device=device,
            batch_size=request.batch_size,
            runtime=request.runtime,
        )
        for name, model, window in zip(rows.models, loaded, how.windows(clips), strict=True)
    ]
