"""`tubelet report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.places import OnDisk, Readable


@click.command(name="report")
@click.argument("out", type=Readable())
@click.option(
    "-o",
    "--output",
    "dest",
    type=OnDisk(dir_okay=False),
    default="report.html",
    show_default=True,
    help="The page.",
)
@click.option(
    "--videos",
    type=click.IntRange(0),
    default=24,
    show_default=True,
    help="So many in full, evenly over the ids.",
)
@click.option(
    "--video", "chosen", multiple=True, help="This one in full, by id; repeat for several."
)
@click.option(
    "--windows",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Contact sheets per video.",
)
@click.option(
    "--until",
    "until_s",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Contact sheets come from this much of a video: all of it is decoded up to them.",
)
@click.option(
    "--sources",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder to look for the videos in, where they have moved.",
)
@click.option("--umap", is_flag=True, help="A second map (tubelet[umap]).")
@click.option(
    "--no-scores", is_flag=True, help="Do not compute class scores where no logits are stored."
)
@DEBUG
def command(out: Path, dest: Path, no_scores: bool, debug: bool, **choices: Any) -> None:
    """One HTML file about the features in OUT: the recipe in words, what the model saw, class
    timelines, self-similarity, novelty, a map, near-duplicates, outliers.

    It opens from disk, makes no request, follows light and dark, and prints.

    Example: tubelet report features/ -o report.html
    """
    from tubelet.report import Choices, write_report

    def note(text: str) -> None:
        print(text, file=sys.stderr)

    choices |= {name: tuple(choices[name]) for name in ("chosen", "roots")}
    write_report(out, dest, Choices(**choices, scores=not no_scores), note=note)
    click.echo(f"{dest}: {dest.stat().st_size / 1e6:.1f} MB")
