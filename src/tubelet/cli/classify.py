"""`tubelet classify`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tubelet.cli.options import (
    DEBUG,
    DEFAULT_MODEL,
    DEVICE,
    FLOW_OPTIONS,
    FRAME_OPTIONS,
    VIEW_OPTIONS,
    WEIGHTS,
    WINDOW_OPTIONS,
    flow_of,
    inputs_of,
    stacked,
    view_of,
    windows_of,
)
from tubelet.errors import TubeletError, UsageError


@click.command(name="classify")
@click.argument("inputs", nargs=-1, required=True)
@click.option("-m", "--model", default=DEFAULT_MODEL, show_default=True, help="Model id.")
@WEIGHTS
@click.option("--top", type=click.IntRange(1), default=5, show_default=True)
@click.option("--views", help="TxS: the reference's T temporal x S spatial views, e.g. 10x3.")
@stacked(FRAME_OPTIONS, WINDOW_OPTIONS, VIEW_OPTIONS, FLOW_OPTIONS)
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="One JSON object per video on stdout.")
@DEBUG
def command(inputs: tuple[str, ...], **choices: Any) -> int:
    """The classes of INPUTS, per window with its times and for the whole video.

    Example: tubelet classify clip.mp4 --top 3
    """
    from tubelet.extraction.classify import Classifier, parse_views
    from tubelet.extraction.extractor import Options
    from tubelet.models.registry import create_model

    views = parse_views(choices["views"]) if choices["views"] else None
    weights = {"weights": choices["weights"]} if choices["weights"] else {}
    items = inputs_of(
        inputs, frames_fps=choices["frames_fps"], frames_pattern=choices["frames_pattern"]
    )
    model = create_model(choices["model"], **weights)
    classifier = Classifier(
        model,
        name=choices["model"],
        window=windows_of([model.clip], choices)[0],
        view=view_of(model.clip, choices),
        options=Options(flow=flow_of([model.clip], choices), flow_cache=choices["flow_cache"]),
        device=choices["device"],
    )
    failed = 0
    for item in items:
        try:
            result = classifier.classify(item, views=views, top=choices["top"])
        except UsageError:
            raise
        except TubeletError as error:
            if choices["debug"]:
                raise
            failed += 1
            print(f"{item.id}: failed: {error}", file=sys.stderr)
            continue
        click.echo(json.dumps(result) if choices["as_json"] else "\n".join(lines_of(result)))
    return 1 if failed else 0


def lines_of(result: dict[str, Any]) -> list[str]:
    """A result in words."""
    lines = [result["id"]]
    for window in result["windows"]:
        best = ", ".join(f"{name} {score:.2f}" for name, score in window["top"])
        lines.append(f"  {window['start_s']:7.2f} - {window['end_s']:7.2f} s  {best}")
    lines.append("  whole video")
    lines += [f"    {score:6.3f}  {name}" for name, score in result["top"]]
    return lines
