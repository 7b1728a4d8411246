"""`tubelet status`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.places import OutPlace
from tubelet.store.remote.objects import ObjectFolder


@click.command(name="status")
@click.argument("out", type=OutPlace())
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@DEBUG
def command(out: Path | ObjectFolder, as_json: bool, debug: bool) -> None:
    """How far the runs on OUT are: videos finished, failed, being worked on, and by whom.

    Example: tubelet status features/
    """
    from tubelet.cli.interrupt import span
    from tubelet.machine.timing import in_words
    from tubelet.run.status import status_of
    from tubelet.store.remote.fetch_folder import local_copy

    if isinstance(out, ObjectFolder):
        with local_copy(out.url, arrays=False) as path:
            found = status_of(path)
        found = [replace(s, out=out.url + s.out.removeprefix(str(path))) for s in found]
    else:
        found = status_of(out)
    if as_json:
        click.echo(json.dumps([asdict(status) for status in found]))
        return
    for status in found:
        click.echo(
            f"{status.out}: {status.videos} videos done, {status.rows} rows, "
            f"{status.hours:.2f} hours; {status.failed} failed"
        )
        if status.runs:
            left = "time left unknown yet"
            if status.left_s is not None:
                left = f"about {span(status.left_s)} left"
            click.echo(f"  {len(status.working)} claimed, {status.left} to do; {left}")
    for run in found[0].runs:
        shard = f" (shard {run['shard']})" if run.get("shard") else ""
        click.echo(f"  run of {run['inputs']} inputs{shard}: process {run['pid']} on {run['host']}")
        if run.get("work"):
            click.echo(f"    {in_words(run['work'])}")
    for claim in found[0].working:
        click.echo(f"  working on {claim['id']}: process {claim['pid']} on {claim['host']}")
