"""`tubelet check`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tubelet.cli.options import DEBUG, DEVICE


@click.command(name="check")
@DEVICE
@click.option(
    "--runtime",
    type=click.Choice(["fast", "reference", "compile"]),
    default="fast",
    show_default=True,
    help="fast: networks rebuilt for inference; reference: the readable ones.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16", "auto"]),
    default="fp32",
    show_default=True,
)
@click.option("--offline", is_flag=True, help="Fetch no weights; use them where they are cached.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
@DEBUG
def command(
    device: str, runtime: str, precision: str, offline: bool, as_json: bool, debug: bool
) -> int:
    """Whether this installation computes the reference's numbers; paste it into a bug report.

    One network per family and the default model with its released weights (fetched where they are
    not cached), each on one clip, on the device and with the runtime that are asked for; the
    decoder on frames that show their number; and versions of everything that numbers depend on.
    The error of a network is the largest difference over the largest magnitude, in lower precisions
    than float32 1 - cosine; that of the decoder is in seconds. Exit code 1 where one is beyond its
    bound or a check fails; weights that cannot be fetched are told, and not checked.

    Example: tubelet check --device cuda
    """
    from tubelet.bench.check import HowRun, check_installation

    result = check_installation(
        HowRun(device, runtime, precision),
        fetch=not offline,
        say=lambda what: print(f"checking {what} ...", file=sys.stderr),
    )
    click.echo(json.dumps(result, indent=1) if as_json else table(result))
    return 0 if result["ok"] else 1


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    facts = result["installation"]
    build = facts["decoder"]
    named = f" ({facts['device_name']})" if facts["device_name"] else ""
    lacks = f"; cannot decode {', '.join(build['missing'])}" if build["missing"] else ""
    extras = ", ".join(f"{name} {number}" for name, number in facts["extras"].items())
    lines = [
        f"versions tubelet {facts['tubelet']}, Python {facts['python']}, torch {facts['torch']}, "
        f"numpy {facts['numpy']}",
        f"{facts['platform']}; {facts['cpu']}, {facts['threads']} threads",
        f"device {facts['device']}{named}, runtime {facts['runtime']}, "
        f"precision {facts['precision']}",
        f"decoder PyAV {build['av']}, FFmpeg {build['ffmpeg']}, "
        f"libavcodec {build.get('libavcodec', '-')}, libswscale {build.get('libswscale', '-')}"
        f"{lacks}",
        f"extras {extras or 'none'}",
        "",
        f"{'check':9} {'of':52} {'error':>8} {'bound':>8} {'seconds':>8}",
    ]
    for found in result["findings"]:
        error, bound = (
            "-" if found[key] is None else f"{found[key]:.1e}" for key in ("error", "bound")
        )
        lines.append(
            f"{found['check']:9} {found['of']:52} {error:>8} {bound:>8} {found['seconds']:8.1f}  "
            f"{found['verdict']}"
        )
        if found["note"]:
            lines.append(f"{'':9} {found['note']}")
    findings = result["findings"]
    off = [found["check"] for found in findings if found["verdict"] == "off"]
    good = sum(found["verdict"] == "ok" for found in findings)
    seconds = sum(found["seconds"] for found in findings)
    lines += ["", f"{good} of {len(findings)} ok in {seconds:.0f} s"]
    if off:
        lines.append(f"off: {', '.join(off)}; report it with all of the above")
    return "\n".join(lines)
