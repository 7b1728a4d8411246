"""`tubelet bench`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tubelet.cli.options import DEBUG, DEFAULT_MODEL


@click.command(name="bench")
@click.option(
    "-m", "--model", "models", multiple=True, help=f"Repeat for several. [{DEFAULT_MODEL}]"
)
@click.option("--video", help="A video of yours; its stages are timed. [one made on the spot]")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "bf16"]),
    help="Repeat for several. [fp32, and bf16 where the CPU has units for it]",
)
@click.option("--batch-size", "batches", multiple=True, type=int, help="Repeat. [1 and 4]")
@click.option("--rounds", type=int, default=5, show_default=True, help="Repetitions, in turns.")
@click.option("--threads", type=int, help="Of each process. [all cores]")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
@DEBUG
def command(models: tuple[str, ...], as_json: bool, **choices: Any) -> int:
    """What this machine can do and what networks make of it: ceilings, stages of a video, clips
    per second, share of the ceiling, peak memory; and what to run.

    Subjects take turns, so that other work on the machine weighs on all of them; medians, with
    quartiles in brackets. CPU only. Nothing is fetched: weights are random. The result is kept for
    `tubelet plan`.

    Example: tubelet bench -m slowfast_r50_8x8.k400 -m x3d_m.k400 --video clip.mp4
    """
    from tubelet.bench.machine import remember
    from tubelet.bench.measure import Ask, measure
    from tubelet.models.device import has_bf16_units

    usual = ("fp32", "bf16") if has_bf16_units("cpu") else ("fp32",)
    ask = Ask(
        models=tuple(dict.fromkeys(models)) or (DEFAULT_MODEL,),
        precisions=tuple(dict.fromkeys(choices["precisions"])) or usual,
        batches=tuple(sorted(set(choices["batches"]))) or (1, 4),
        rounds=choices["rounds"],
        threads=choices["threads"],
        video=choices["video"],
    )
    result = measure(ask, lambda what: print(f"measuring {what} ...", file=sys.stderr))
    click.echo(json.dumps(result, indent=1) if as_json else table(result))
    print(f"kept in {remember(result)}", file=sys.stderr)  # last: the cache may not be writable
    return 0


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    facts, limits, video = result["machine"], result["ceilings"], result["video"]
    lines = [
        f"{facts['cpu']}, {result['threads']} threads, torch {facts['torch']}",
        *(
            f"  {name.removesuffix('_gflops')} matrix product   {_spread(value)} GFLOP/s"
            for name, value in limits.items()
            if name.endswith("_gflops")
        ),
        f"  memory copy           {_spread(limits['copy_gb_s'])} GB/s",
        f"video, {video['source']}, {video['size'][0]}x{video['size'][1]}, {video['fps']:g} fps",
        f"  decode                {_spread(video['decode_ms'])} ms of CPU per frame "
        f"({video['decode_frames_per_s']:.0f} frames/s per core)",
        f"  prepare               {_spread(video['prepare_ms'])} ms of CPU per frame",
        "",
        f"{'model':44} {'':5} batch  clips/s  GFLOP/s  share of ceiling      peak MB",
    ]
    for model, found in result["models"].items():
        for precision, kinds in found["precisions"].items():
            for size, at in kinds["batches"].items():
                share, low, high = (f"{v:.0%}" for v in at["share_of_ceiling"])
                lines.append(
                    f"{model:44} {precision:5} {size:>5} {at['clips_per_s']:8.2f} "
                    f"{at['gflops']:8.0f}  {share:>4} ({low} to {high}) {at['peak_mb']:>11}"
                )
    lines.append("")
    for advice in result["recommended"]:
        lines.append(
            f"tubelet extract VIDEO -o OUT {advice['options']}\n"
            f"  a minute of such video: about {advice['seconds_per_minute_of_video']:.1f} s "
            f"(network {advice['network_s']:.1f} s; decoding and preparing "
            f"{advice['decoding_cpu_s']:.1f} s of CPU beside it)"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    middle, low, high = values
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"
