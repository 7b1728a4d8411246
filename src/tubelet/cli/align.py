"""`tubelet align`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.output import echo_json
from tubelet.cli.places import OnDisk, Readable
from tubelet.errors import StoreError, UsageError

SHOWN = 10


@click.command(name="align")
@click.argument("annotations", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "fmt",
    required=True,
    help="charades-sta, activitynet-captions, youcookii, tacos or qvhighlights.",
)
@click.option("--features", required=True, type=Readable(), help="OUT of extract.")
@click.option("-o", "--output", required=True, type=OnDisk())
@click.option(
    "--rule",
    default="center",
    show_default=True,
    help="center, half-window, half-stride, window-start or proportional.",
)
@click.option("--json", "as_json", is_flag=True, help="Every note, machine-readable, on stdout.")
@DEBUG
def command(annotations: Path, features: Path, output: Path, **choices: Any) -> int:
    """ANNOTATIONS with the rows of their videos' features added.

    Every moment gains {"rows": [first, stop), "nearest", "tau", "notes"}. Moments that lie outside
    their video or have no features are reported; there being any makes the exit code 1.

    Example: tubelet align charades_sta_test.txt --format charades-sta --features features/ -o
    charades_rows.jsonl
    """
    from tubelet.machine.atomic import atomic_file
    from tubelet.rows.align import align, check_rule, track_of
    from tubelet.rows.annotations import matches, read_annotations
    from tubelet.store.listing import read_folder

    rule = check_rule(choices["rule"])
    folder = read_folder(features)
    moments, write = read_annotations(_text(annotations), choices["fmt"])
    tracks: dict[str, Any] = {}
    for video, identity in matches({m.video: None for m in moments}, folder.ids).items():
        try:
            tracks[video] = None if identity is None else track_of(folder.video(identity))
        except StoreError as error:
            print(f"{video}: {error}", file=sys.stderr)
            tracks[video] = None
    found = [align(moment, tracks[moment.video], rule) for moment in moments]
    with atomic_file(output) as file:
        text = write([{**one.record(), "rule": rule} for one in found])
        file.write(text.encode("utf-8", "surrogateescape"))
    noted = [
        {"video": m.video, "start_s": m.start_s, "end_s": m.end_s, "lost": a.lost, "notes": a.notes}
        for m, a in zip(moments, found, strict=True)
        if a.notes
    ]
    lost = sum(a.lost for a in found)
    summary = {"moments": len(moments), "lost": lost, "noted": len(noted), "rule": rule}
    if choices["as_json"]:
        echo_json({**summary, "notes": noted})
    else:
        print("\n".join(_report(summary, noted)), file=sys.stderr)
    return 1 if lost else 0


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _report(summary: dict[str, Any], noted: list[dict[str, Any]]) -> list[str]:
    """The first notes, and how many there are of each kind."""
    lines = [
        f"{note['video']} {note['start_s']:.2f} - {note['end_s']:.2f} s: {'; '.join(note['notes'])}"
        for note in noted[:SHOWN]
    ]
    if len(noted) > SHOWN:
        lines.append(f"... and {len(noted) - SHOWN} more (--json shows all)")
    kinds = Counter("lost" if note["lost"] else "kept with a note" for note in noted)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return [*lines, f"{summary['moments']} moments{': ' + counted if counted else ''}"]
