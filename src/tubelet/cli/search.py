"""`tubelet search`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tubelet.cli.options import DEBUG, DEVICE, WEIGHTS
from tubelet.cli.places import Readable
from tubelet.types import Features


@click.command(name="search")
@click.argument("out", type=Readable())
@click.option(
    "--like",
    required=True,
    metavar="VIDEO[@SECONDS[-SECONDS]]",
    help="A moment, a span or a whole video of OUT, by id; or a video file, extracted first.",
)
@click.option("--span", type=float, metavar="SECONDS", help="So long from @SECONDS on.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True)
@click.option(
    "--apart",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Hits of one video are further apart than this; they never overlap.",
)
@click.option(
    "--exact/--index",
    "exact",
    default=None,
    help="Look at every row, or use an index (tubelet[search]). [an index where looking at every "
    "row takes more than 100 ms]",
)
@WEIGHTS
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@DEBUG
def command(
    out: Path,
    like: str,
    span: float | None,
    top: int,
    apart: float,
    exact: bool | None,
    weights: str | None,
    device: str,
    as_json: bool,
    debug: bool,
) -> None:
    """The moments of OUT that are most alike: cosine over all rows, one hit per moment.

    Another video is extracted by the recipe of OUT; that is refused where its rows would not be
    comparable. The first search keeps all rows in one file in OUT/.tubelet.

    Example: tubelet search features/ --like arm_wrestling@3.5 --top 5
    """
    from tubelet.extraction.recipe import extractor_of
    from tubelet.rows.collection import load_collection
    from tubelet.rows.search import query_of, searcher_for
    from tubelet.store.folder import json_bytes

    collection = load_collection(out)
    for identity, why in collection.skipped:
        print(f"left out: {identity}: {why}", file=sys.stderr)

    def extract(path: str, start_s: float | None, end_s: float | None) -> Features:
        extractor = extractor_of(collection.recipe, weights=weights, device=device)
        return extractor(path, start_s=start_s, end_s=end_s)

    def note(text: str) -> None:
        print(text, file=sys.stderr)

    mode = "auto" if exact is None else "exact" if exact else "index"
    searcher = searcher_for(collection, mode=mode, note=note)
    query = query_of(like, searcher, span_s=span, extract=extract)
    found = searcher.nearest(query.vector, top=top, apart_s=apart, exclude=query.own)
    if as_json:
        record = {"query": query.record(), **found.record(), "skipped": dict(collection.skipped)}
        click.echo(json_bytes(record))
        return
    for hit in found.hits:
        click.echo(f"{hit.cosine:7.4f}  {hit.start_s:9.3f} - {hit.end_s:9.3f} s  {hit.id}")
    print(f"{found.engine}, {found.rows} rows, {found.took_s * 1000:.1f} ms", file=sys.stderr)
