"""`tubelet merge`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.output import echo_json
from tubelet.cli.places import OnDisk, Readable


@click.command(name="merge")
@click.argument("folders", nargs=-1, required=True, type=Readable())
@click.option("-o", "--dest", required=True, type=OnDisk(), help="The folder.")
@click.option("--json", "as_json", is_flag=True, help="A machine-readable summary on stdout.")
@DEBUG
def command(folders: tuple[Path, ...], dest: Path, as_json: bool, debug: bool) -> int:
    """Join output FOLDERS of one recipe, such as those of several machines. They stay as they are.

    An id that two folders have must have the same bytes in both.

    Example: tubelet merge part0/ part1/ -o features/
    """
    from tubelet.store.merge import merge

    done = merge(folders, dest)
    for identity, why in done.damaged.items():
        print(f"{identity}: not copied: {why}", file=sys.stderr)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        summary = {
            "dest": str(dest),
            "copied": done.copied,
            "same": done.same,
            "damaged": done.damaged,
            "notes": done.notes,
        }
        echo_json(summary)
    else:
        print(f"{len(done.copied)} copied, {len(done.same)} already there", file=sys.stderr)
    return 1 if done.damaged else 0
