"""`tubelet presets`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.output import echo_json
from tubelet.presets import ELSEWHERE, PRESETS, Preset, find


@click.command(name="presets")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option("--markdown", is_flag=True, help="All of them as docs/presets.md has them.")
@DEBUG
def command(name: str | None, as_json: bool, markdown: bool, debug: bool) -> None:
    """Published conventions: all of them, or what NAME means and where it comes from.

    Use one with `tubelet extract --preset NAME`; options that you give yourself override it.

    Example: tubelet presets qvhighlights-slowfast
    """
    if markdown:
        click.echo("\n".join(document()))
    elif as_json:
        chosen = [find(name)] if name else list(PRESETS.values())
        echo_json([record(preset) for preset in chosen])
    elif name:
        click.echo("\n".join(explain(find(name))))
    else:
        click.echo("\n".join(overview()))


def record(preset: Preset) -> dict[str, Any]:
    """A preset as one JSON object."""
    from tubelet.config import to_plain

    return to_plain(preset)


def overview() -> list[str]:
    """A line per preset, and what is not here."""
    width = max(len(name) for name in PRESETS)
    lines = [f"{name:{width}}  {preset.title}" for name, preset in PRESETS.items()]
    lines += ["", "Not made by any network here:"]
    lines += [f"  {name}: {why}" for name, why in ELSEWHERE.items()]
    return lines


def explain(preset: Preset) -> list[str]:
    """A preset in words."""
    n, rows = preset.example
    lines = [
        preset.name,
        f"  {preset.title}",
        "",
        f"  model     {preset.models[0]}{' (bring the weights)' if preset.needs_weights else ''}",
        *(f"            or {name}" for name in preset.models[1:]),
        f"  frames    {timeline_words(preset)}",
        f"  windows   {window_words(preset)}",
        f"  pixels    {pixel_words(preset)}",
        f"  stored    {preset.dtype}, {stored_words(preset)}, "
        f"keep {preset.keep}; tubelet pack --layout {preset.layout}"
        f"{'' if preset.tap == 'pool' else f' --tap {preset.tap}'}",
        f"  times     consumers place a row by the rule {preset.offset}",
        f"  example   {n} frames -> {rows} windows",
        "",
        *_paragraph("exact", [preset.exact]),
        *_paragraph("not sure", preset.unsure),
        "  sources",
        *(f"    {source}" for source in preset.sources),
    ]
    return lines


def document() -> list[str]:
    """docs/presets.md."""
    lines = [
        "# Presets",
        "",
        "Made by `tubelet presets --markdown`; a test holds this file equal to the data.",
        "",
        "A preset is one published convention: the timeline, the windows, the pixels, the model",
        "and the file that consumers read. `tubelet extract --preset NAME` and `tubelet plan",
        "--preset NAME` apply it; an option given beside it overrides it, and the recipe says so.",
        "`tubelet pack` writes the layout. *exact* is what the settings reproduce, *not sure* what",
        "differs or what nobody has published.",
        "",
        "| name | model | fps | W / K / S | tail | row | layout |",
        "|---|---|---|---|---|---|---|",
        *(_table_row(preset) for preset in PRESETS.values()),
        "",
        "## Conventions that no network here can produce",
        "",
        *(f"- {name}: {why}" for name, why in ELSEWHERE.items()),
    ]
    for preset in PRESETS.values():
        lines += ["", f"## {preset.name}", "", "```", *explain(preset), "```"]
    return lines


def _table_row(preset: Preset) -> str:
    seconds = preset.seconds_per_row
    cells = [
        f"[{preset.name}](#{preset.name})",
        f"`{preset.models[0]}`",
        "native" if preset.fps is None else str(preset.fps),
        f"{preset.frames or 'model'} / {preset.interval} / {preset.stride or 'W'}",
        preset.tail,
        f"{float(seconds):.4g} s" if seconds else "",
        preset.layout,
    ]
    return f"| {' | '.join(cells)} |"


def timeline_words(preset: Preset) -> str:
    if preset.fps is None:
        return "the video's own"
    how = "FFmpeg's fps filter" if preset.resample == "ffmpeg-near" else "the frame on screen"
    return f"{preset.fps} per second ({how})"


def window_words(preset: Preset) -> str:
    frames = "the model's number of" if preset.frames is None else str(preset.frames)
    interval = "the model's" if preset.interval is None else str(preset.interval)
    stride = "no overlap" if preset.stride is None else f"every {preset.stride}"
    if preset.rows is not None:
        return f"{preset.rows} of {frames} frames, interval {interval}, spread over the video"
    over = f" over {preset.length}" if preset.length else ""
    index = f", indices by {preset.index}" if preset.index != "every-kth" else ""
    return f"{frames} frames, interval {interval}{over}, {stride}{index}; tail {preset.tail}"


def pixel_words(preset: Preset) -> str:
    short = preset.short_side or "the model's"
    size = {
        "short-side": f"short side {short}",
        "enlarge": f"short side at least {short}, larger frames as they are",
        "stretch": f"stretched to {preset.long_side} x {short}",
    }[preset.fit]
    crop = preset.crop or "the model's"
    return f"{size}, centre crop {crop}, {preset.resize}"


def stored_words(preset: Preset) -> str:
    if preset.logits:
        return "class scores too"
    return "pool" if preset.tap == "pool" else f"pool and {preset.tap}"


def _paragraph(head: str, texts: Iterable[str]) -> list[str]:
    lines = [f"  {head}"]
    for text in texts:
        lines += textwrap.wrap(
            text, 96, initial_indent="    - ", subsequent_indent="      ", break_on_hyphens=False
        )
    return lines
