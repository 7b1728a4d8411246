"""`tubelet models`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tubelet.cli.options import DEBUG
from tubelet.errors import UnknownName
from tubelet.models import zoo
from tubelet.models.weights.fetch.released import status

if TYPE_CHECKING:
    from tubelet.models.zoo import ZooEntry

HEADINGS = ("id", "family", "TxK", "crop", "D", "M params", "GFLOPs", "accuracy", "data", "weights")
RIGHT = {2, 3, 4, 5, 6, 7}


@click.command(name="models")
@click.argument("pattern", default="*")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: every fact of the table.")
@click.option("--verify", is_flag=True, help="Fetch the weights, load them strictly, run a clip.")
@DEBUG
def command(pattern: str, as_json: bool, verify: bool, debug: bool) -> int:
    """Released weights whose id matches PATTERN, and where they are.

    Columns: frames x interval, crop, feature width D, millions of parameters, GFLOPs (multiply-adds
    of one view, counted here where the source states none), top-1 or mAP in % as its source states
    it. Weights are cached here, downloadable, dead (as the source reports) or bring your own
    (--weights FILE).

    Example: tubelet models "slowfast_r50*"
    """
    entries = [zoo.table().entries[name] for name in matching(pattern)]
    if verify:
        return run_verify(entries, as_json=as_json)
    if as_json:
        click.echo(json.dumps([record(entry) for entry in entries], ensure_ascii=False))
    else:
        click.echo("\n".join(table([row(entry) for entry in entries], HEADINGS)))
        click.echo(f"{len(entries)} of {len(zoo.table().entries)}", err=True)
    return 0


def matching(pattern: str) -> list[str]:
    """Ids that match; a plain word stands for *word*. Raises UnknownName where none does."""
    names = zoo.list_models(pattern)
    if not names and zoo.find(pattern):
        names = [zoo.entry_for(pattern).id]
    if not names and not set(pattern) & set("*?["):
        names = zoo.list_models(f"*{pattern}*")
    if not names:
        for refused in zoo.table().not_runnable:
            if refused["zoo_id"] == pattern:
                raise UnknownName(f"{pattern!r} was released but cannot be run: {refused['why']}")
        raise UnknownName(f"no model matches {pattern!r}{zoo.suggest(pattern)}")
    return names


def record(entry: ZooEntry) -> dict[str, Any]:
    """Everything that is known of an entry."""
    return {**asdict(entry), "weights": status(entry)}


def accuracy(entry: ZooEntry) -> str:
    top1, mean_ap = entry.facts.get("top1"), entry.facts.get("map")
    if top1 is not None:
        return f"{top1:.1f}"
    return f"{mean_ap:.1f} mAP" if mean_ap is not None else "-"


def number(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}"


def row(entry: ZooEntry) -> tuple[str, ...]:
    clip = entry.clip
    backbone = "" if entry.classes else " (backbone)"
    return (
        entry.id,
        entry.family + backbone,
        f"{clip.frames}x{clip.interval}",
        str(clip.crop),
        str(entry.width),
        number(entry.facts.get("params_m")),
        number(entry.facts.get("gflops", entry.facts.get("gmacs"))),
        accuracy(entry),
        entry.dataset or "-",
        status(entry),
    )


def table(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> list[str]:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in RIGHT else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (headings, *rows)
    ]


def run_verify(entries: Sequence[ZooEntry], *, as_json: bool) -> int:
    """One line per entry as it is done; 1 where any failed."""
    from tubelet.models.weights.fetch.try_out import verify

    failed = 0
    for entry in entries:
        verdict = verify(entry, progress=shown(entry.id))
        failed += not verdict.ok
        if as_json:
            click.echo(json.dumps(asdict(verdict), ensure_ascii=False))
        elif verdict.ok:
            best = f"{verdict.top} {verdict.score:.3f}" if verdict.top else "features finite"
            click.echo(f"ok      {verdict.id}  {verdict.sha256}  {verdict.layout}  {best}")
        else:
            click.echo(f"FAILED  {verdict.id}  {verdict.error}")
    return 1 if failed else 0


def shown(name: str) -> Callable[[int, int | None], None] | None:
    """A counter on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int | None) -> None:
        of = f" of {total / 1e6:.0f}" if total else ""
        end = "\n" if done == total else ""
        click.echo(f"\r{name}: {done / 1e6:.0f}{of} MB{end}", err=True, nl=False)

    return show
