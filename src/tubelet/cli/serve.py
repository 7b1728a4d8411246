"""`tubelet serve`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any

import click

from tubelet.cli.options import DEBUG, DEVICE, WEIGHTS
from tubelet.cli.places import OnDisk
from tubelet.errors import UsageError

MB = 1 << 20


@click.command(name="serve")
@click.argument("out", type=OnDisk())
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True)
@click.option(
    "--token",
    envvar="TUBELET_TOKEN",
    help="What a visitor must know. [none on loopback, a random one elsewhere]",
)
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="A further name of this machine; repeat."
)
@click.option(
    "--videos",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of videos whose recorded path leads nowhere from here; repeat.",
)
@click.option("--follow-links", is_flag=True, help="Play videos that are links to other folders.")
@click.option(
    "--session",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep uploads and their features here. [a folder that goes with the server]",
)
@click.option("--no-uploads", is_flag=True, help="Only look.")
@click.option("--max-upload", type=click.IntRange(1), default=2048, show_default=True, metavar="MB")
@click.option(
    "--upload-minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long one upload may be extracted.",
)
@WEIGHTS
@DEVICE
@click.option("--open", "show", is_flag=True, help="Open a browser.")
@DEBUG
def command(out: Path, **choices: Any) -> None:
    """A local web page of OUT: play videos over their rows, find moments that are alike, compare
    two videos, see all rows as a map, extract and search a new video.

    Listens on this machine only unless --host says otherwise; then a token is needed. OUT is not
    changed, but for its cache of rows.

    Example: tubelet serve features/ --open
    """
    from functools import partial

    from tubelet.extraction.recipe import extractor_of

    try:
        from tubelet.serve.app import SiteSettings
        from tubelet.serve.server import serve
        from tubelet.serve.uploads import Limits
    except ModuleNotFoundError as error:
        raise UsageError(f"serve needs {error.name}: pip install 'tubelet[serve]'") from error

    size = choices["max_upload"] * MB
    settings = SiteSettings(
        roots=choices["roots"],
        follow_links=choices["follow_links"],
        session=choices["session"],
        build=None
        if choices["no_uploads"]
        else partial(extractor_of, weights=choices["weights"], device=choices["device"]),
        limits=Limits(upload=size, session=10 * size, time_s=60 * choices["upload_minutes"]),
    )

    def ready(address: str) -> None:
        click.echo(f"{out} is at {address}\nCtrl-C stops it.", err=True)
        if choices["show"]:
            webbrowser.open(address)

    serve(
        out,
        settings,
        host=choices["host"],
        port=choices["port"],
        token=choices["token"],
        names=choices["allow_host"],
        ready=ready,
    )
