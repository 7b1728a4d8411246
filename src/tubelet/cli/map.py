"""`tubelet map`."""

from __future__ import annotations

import json
from typing import Any

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.places import Readable
from tubelet.errors import UsageError


@click.command(name="map")
@click.argument("features", type=Readable(kind=str))
@click.option("--seconds", help="A:B, the moment from A to B seconds; either may be left out.")
@click.option("--rows", help="I:J, the rows from I up to but not J; either may be left out.")
@click.option(
    "--rule",
    default="center",
    show_default=True,
    help="center, half-window, half-stride, window-start or proportional.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@DEBUG
def command(features: str, seconds: str | None, rows: str | None, **choices: Any) -> None:
    """Seconds of a video -> rows of FEATURES (an array file or its .json), and back.

    Example: tubelet map features/arm_wrestling.npy --seconds 2.5:4
    """
    from tubelet.rows.align import check_rule, track_of
    from tubelet.store.folder import load

    if (seconds is None) == (rows is None):
        raise UsageError("give either --seconds A:B or --rows I:J")
    rule = check_rule(choices["rule"])
    found = load(features)
    times = {"start_s": found.start_s, "end_s": found.end_s, "center_s": found.center_s}
    track = track_of({**found.provenance, **times})
    if seconds is not None:
        record = of_seconds(track, *_range(seconds, track.duration_s, float), rule)
    else:
        record = of_rows(track, *_range(rows or "", len(track), int), rule)
    if choices["as_json"]:
        click.echo(json.dumps(record))
        return
    first, stop = record["rows"]
    what = f"rows {first}:{stop}" if stop > first else f"no row (nearest is {record['nearest']})"
    click.echo(
        f"{record['start_s']:.3f} - {record['end_s']:.3f} s  =  {what} of {len(track)}, "
        f"tau {record['tau'][0]:.3f} - {record['tau'][1]:.3f}"
    )


def of_seconds(track: Any, t0: float, t1: float, rule: Any) -> dict[str, Any]:
    """The rows of a moment."""
    from tubelet.rows.align import nearest_row, rows_in, tau

    if not t0 < t1:
        raise UsageError(f"seconds {t0}:{t1}: the first must be smaller")
    first, stop = rows_in(track, t0, t1, rule)
    return {
        "start_s": t0,
        "end_s": t1,
        "rows": [first, stop],
        "nearest": nearest_row(track, (t0 + t1) / 2, rule),
        "tau": [tau(track, t0), tau(track, t1)],
        "rule": rule,
    }


def of_rows(track: Any, first: int, stop: int, rule: Any) -> dict[str, Any]:
    """What rows cover, and their instants."""
    from tubelet.rows.align import instants, seconds_in, tau

    start, end = seconds_in(track, first, stop)
    return {
        "start_s": start,
        "end_s": end,
        "rows": [first, stop],
        "instants_s": instants(track, rule)[first:stop].tolist(),
        "tau": [tau(track, start), tau(track, end)],
        "rule": rule,
    }


def _range(text: str, last: float, kind: Any) -> tuple[Any, Any]:
    """ "A:B" with A, B of a kind; a missing A is 0, a missing B `last`; a lone I is I:I+1."""
    head, colon, tail = text.partition(":")
    try:
        if not colon and kind is int:
            return int(head), int(head) + 1
        if not colon:
            raise ValueError
        return kind(head) if head else kind(0), kind(tail) if tail else kind(last)
    except ValueError:
        raise UsageError(f"{text!r}: need A:B, such as 2:4") from None
