"""`tubelet classify`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from tubelet.cli.options import (
    DEBUG,
    DEVICE,
    FLOW_OPTIONS,
    FRAME_OPTIONS,
    VIEW_OPTIONS,
    WEIGHTS,
    WINDOW_OPTIONS,
    inputs_of,
    stacked,
)
from tubelet.cli.request import DEFAULT_MODEL, ClassifyRequest, classify_request
from tubelet.errors import TubeletError, UsageError

if TYPE_CHECKING:
    from tubelet.extraction.classify import Classifier


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
def command(inputs: tuple[str, ...], as_json: bool, **choices: Any) -> int:
    """The classes of INPUTS, per window with its times and for the whole video.

    Example: tubelet classify clip.mp4 --top 3
    """
    request = classify_request(choices)
    from tubelet.extraction.classify import parse_views

    views = parse_views(request.views) if request.views else None
    items = inputs_of(inputs, frames_fps=request.frames_fps, frames_pattern=request.frames_pattern)
    classifier = build_classifier(request)
    failed = 0
    for item in items:
        try:
            result = classifier.classify(item, views=views, top=request.top)
        except UsageError:
            raise
        except TubeletError as error:
            if request.debug:
                raise
            failed += 1
            print(f"{item.id}: failed: {error}", file=sys.stderr)
            continue
        click.echo(json.dumps(result) if as_json else "\n".join(lines_of(result)))
    return 1 if failed else 0


def build_classifier(request: ClassifyRequest) -> Classifier:
    """The network with its windows and pixels."""
    from tubelet.extraction.classify import Classifier
    from tubelet.extraction.extractor import Options
    from tubelet.models.registry import create_model

    rows = request.rows
    (name,) = rows.models
    model = create_model(name, **rows.weights_choice)
    return Classifier(
        model,
        name=name,
        window=rows.how.window(model.clip),
        view=rows.how.view(model.clip),
        options=Options(flow=rows.flow([model.clip]), flow_cache=rows.flow_cache),
        device=request.device,
    )


def lines_of(result: dict[str, Any]) -> list[str]:
    """A result in words."""
    lines = [result["id"]]
    for window in result["windows"]:
        best = ", ".join(f"{name} {score:.2f}" for name, score in window["top"])
        lines.append(f"  {window['start_s']:7.2f} - {window['end_s']:7.2f} s  {best}")
    lines.append("  whole video")
    lines += [f"    {score:6.3f}  {name}" for name, score in result["top"]]
    return lines
