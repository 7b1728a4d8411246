"""`tubelet compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.places import Readable


@click.command(name="compare")
@click.argument("a", type=Readable())
@click.argument("b", type=Readable())
@click.option("--worst", type=click.IntRange(0), default=10, show_default=True, help="Rows shown.")
@click.option(
    "--min-cosine",
    type=float,
    help="Exit code 1 when a row is less alike, lengths differ or a video is missing.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@DEBUG
def command(a: Path, b: Path, worst: int, min_cosine: float | None, **choices: Any) -> int:
    """Feature files or folders A and B: lengths, how alike their rows are, the least alike ones.

    Files of other tools are read too: .npy, .npz (features, feats or one array), .pt.

    Example: tubelet compare features/ published_features/
    """
    from tubelet.rows.compare import compare

    result = compare(a, b, worst=worst)
    record = result.record()
    click.echo(json.dumps(record) if choices["as_json"] else "\n".join(lines_of(record)))
    if min_cosine is not None:
        lowest = record["cosine"]["min"] if record["cosine"] else 1.0
        apart = result.unequal or result.only_a or result.only_b
        return 1 if result.problems or apart or lowest < min_cosine else 0
    return 1 if result.problems else 0


def lines_of(record: dict[str, Any]) -> list[str]:
    """A comparison in words."""
    lines = [
        f"{record['videos']} videos and {record['rows']} rows in both, "
        f"{record['identical_rows']} rows identical"
    ]
    for name in ("cosine", "relative_difference"):
        if record[name]:
            shown = ", ".join(f"{key} {value:.6g}" for key, value in record[name].items())
            lines.append(f"  {name.replace('_', ' ')}: {shown}")
    for side in ("only_a", "only_b"):
        if record[side]:
            first = ", ".join(record[side][:5])
            lines.append(f"  only in {side[-1].upper()}: {len(record[side])} videos ({first})")
    for identity in record["different_lengths"]:
        counts = record["lengths"][identity]
        lines.append(f"  {identity}: {counts[0]} rows in A, {counts[1]} in B")
    lines += [f"  {i}: not compared: {why}" for i, why in record["problems"].items()]
    if record["worst"] and record["identical_rows"] < record["rows"]:
        lines.append("  least alike")
        lines += [f"    {_row(row)}" for row in record["worst"]]
    return lines


def _row(row: dict[str, Any]) -> str:
    times = "" if row["start_s"] is None else f"  {row['start_s']:.3f} - {row['end_s']:.3f} s"
    return (
        f"{row['id']} row {row['row']}{times}: cosine {row['cosine']:.6f}, "
        f"largest difference {row['max_difference']:.6g}"
    )
