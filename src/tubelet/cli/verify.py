"""`tubelet verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.output import echo_json
from tubelet.cli.places import Readable


@click.command(name="verify")
@click.argument("out", type=Readable())
@click.option("--no-plan", is_flag=True, help="Do not open the sources.")
@click.option("--json", "as_json", is_flag=True, help="A machine-readable report on stdout.")
@DEBUG
def command(out: Path, no_plan: bool, as_json: bool, debug: bool) -> int:
    """Whether OUT is what it says: checksums, shapes, finite numbers, rising times.

    Where the sources are at hand, row counts and times are compared with their plan too.
    Exit code 1 when anything is wrong; notes are not errors.

    Example: tubelet verify features/
    """
    from tubelet.rows.verify import verify

    verdict = verify(out, plan=not no_plan)
    if as_json:
        echo_json(
            {
                "videos": verdict.videos,
                "rows": verdict.rows,
                "planned": verdict.planned,
                "problems": [{"id": i, "text": t} for i, t in verdict.problems],
                "notes": [{"id": i, "text": t} for i, t in verdict.notes],
            }
        )
        return 1 if verdict.problems else 0
    for identity, text in verdict.notes:
        print(f"note: {identity}: {text}", file=sys.stderr)
    for identity, text in verdict.problems:
        click.echo(f"WRONG: {identity}: {text}")
    click.echo(
        f"{verdict.videos} videos and {verdict.rows} rows are right, {verdict.planned} of them "
        f"as planned; {len(verdict.problems)} wrong, {len(verdict.notes)} notes"
    )
    return 1 if verdict.problems else 0
