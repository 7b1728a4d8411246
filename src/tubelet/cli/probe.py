"""`tubelet probe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.places import Readable


@click.command(name="probe")
@click.argument("out", type=Readable())
@click.option("--labels", required=True, type=click.Path(path_type=Path), help="Lines `id label`.")
@click.option("--folds", type=int, default=5, show_default=True)
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Neighbours.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the folds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@DEBUG
def command(out: Path, labels: Path, **choices: Any) -> int:
    """How well the stored features of OUT tell labels: nearest neighbours and a linear classifier.

    Example: tubelet probe features/ --labels labels.csv
    """
    from tubelet.train.probe import probe, read_labels, read_table

    table = read_table(out, read_labels(labels))
    found = probe(table, count=choices["folds"], k=choices["k"], seed=choices["seed"])
    if choices["as_json"]:
        click.echo(json.dumps(found))
        return 0
    click.echo(
        f"{found['videos']} videos, {found['classes']} classes, {found['folds']} folds\n"
        f"nearest {found['k']} neighbours   {found['knn']:.4f}\n"
        f"linear classifier     {found['linear']:.4f}\n"
        f"largest class         {found['largest_class']:.4f}"
    )
    if found["unlabelled"] or found["without_rows"]:
        click.echo(
            f"left out: {found['unlabelled']} videos without a label, "
            f"{found['without_rows']} without rows",
            err=True,
        )
    return 0
