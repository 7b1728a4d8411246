"""`tubelet show`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.output import echo_json
from tubelet.cli.places import Readable
from tubelet.errors import StoreError, UsageError
from tubelet.types import Features, VideoInfo

OTHERS = {
    ".csv": "a table; as a list of videos it goes to `tubelet plan` and `tubelet extract`",
    ".txt": "a text; as a list of videos it goes to `tubelet plan` and `tubelet extract`",
    ".jsonl": "a file of JSON lines; as a list of videos it goes to `tubelet plan` and `tubelet "
    "extract`; failures.jsonl is counted by `tubelet status OUT` and renewed by `tubelet extract "
    "--retry-failed`",
    ".tar": "an archive; its videos go to `tubelet plan` and `tubelet extract`",
    ".pt": "a file of weights or of packed features; `tubelet convert` reads weights",
    ".safetensors": "a file of weights or of packed features; `tubelet models` lists networks",
    ".html": "a page; open it in a browser",
}
"""What a file that is neither a video nor features is, and who takes it."""


@click.command(name="show")
@click.argument("path", type=Readable(kind=str))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@DEBUG
def command(path: str, as_json: bool, debug: bool) -> None:
    """What PATH is: a video's streams and timing, or a feature file's rows and provenance.

    Example: tubelet show features/arm_wrestling.npy
    """
    from tubelet.store.folder import CODECS, load

    if Path(path).is_dir():
        raise UsageError(
            f"{path} is a folder; name a video or a feature file in it, or ask `tubelet status` "
            "about an output folder, `tubelet plan --frames-fps 25` about a folder of frames"
        )
    suffix = Path(path).suffix
    if suffix in OTHERS and os.path.isfile(path):
        raise UsageError(f"{path} is {OTHERS[suffix]}")
    if suffix == ".json" or suffix[1:] in CODECS:
        features = load(path)
        record = {**features_record(features)}
    else:
        from tubelet.decode.base import open_video
        from tubelet.extraction.recording import source_facts

        with open_video(path) as reader:
            record = source_facts(reader.info)
            record["header_frames"] = reader.info.frames
            click_lines = video_lines(reader.info)
        if not as_json:
            click.echo("\n".join(click_lines))
            return
    if as_json:
        echo_json(record)
    else:
        click.echo("\n".join(feature_lines(record)))


def video_lines(info: VideoInfo) -> list[str]:
    """A video in words."""
    length = f"{info.duration_s:.2f} s" if info.duration_s else "unknown length"
    frames = f"{info.frames} frames promised" if info.frames else "no frame count in the header"
    lines = [
        info.path,
        f"  {info.container}, {info.codec}, {info.pixel_format}, {info.size_bytes} bytes",
        f"  {info.width} x {info.height} after a rotation of {info.rotation} degrees",
        f"  {length} from {info.start_s:.3f} s, {float(info.fps):.3f} frames/s, {frames}",
    ]
    return lines + [f"  note: {note}" for note in info.notes]


def features_record(features: Features) -> dict[str, Any]:
    """A feature file as one JSON object."""
    times = {k: getattr(features, k).tolist() for k in ("start_s", "end_s", "center_s")}
    return {**features.provenance, **times}


def feature_lines(record: dict[str, Any]) -> list[str]:
    """A feature file in words: facts, then a line per row (the first and last ones of many)."""
    if "shape" not in record:
        raise StoreError("this record has no shape: not a feature file of this version")
    lines = [
        f"{record['id']}: {record['rows']} rows, shape {record['shape']}, {record['dtype']}",
        f"  source    {record['source']}",
        f"  video     {record['codec']}, {record['fps']:.3f} frames/s, "
        f"{record['decoded_frames']} frames decoded",
        f"  recipe    {record['recipe']}",
    ]
    lines += [f"  warning   {text}" for text in record["warnings"]]
    columns = ("start_s", "end_s", "first_last_frame", "padded")
    rows = list(zip(*(record[name] for name in columns), strict=True))
    shown = range(len(rows)) if len(rows) <= 20 else [*range(10), *range(len(rows) - 5, len(rows))]
    for i in shown:
        start, end, frames, padded = rows[i]
        note = f"  {padded} padded" if padded else ""
        lines.append(
            f"  row {i:5d}  {start:9.3f} - {end:9.3f} s  frames {frames[0]}-{frames[1]}{note}"
        )
    return lines
