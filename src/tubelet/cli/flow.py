"""`tubelet flow`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tubelet.cli.options import DEBUG, FRAME_OPTIONS, inputs_of, stacked
from tubelet.cli.output import echo_json
from tubelet.cli.places import OnDisk
from tubelet.clips.windows import parse_fps
from tubelet.errors import TubeletError, UsageError

if TYPE_CHECKING:
    from tubelet.flow.base import FlowConfig
    from tubelet.flow.types import Packed
    from tubelet.inputs import Input
    from tubelet.types import VideoReader

SUFFIXES = {"npz": ".flow.npz", "safetensors": ".flow.safetensors", "video": ".flow.mp4"}


@click.command(name="flow")
@click.argument("inputs", nargs=-1, required=True)
@click.option("-o", "--out", required=True, type=OnDisk(), help="Output folder.")
@click.option(
    "--method",
    default="tvl1",
    show_default=True,
    help="tvl1, dis, farneback or raft, with parameters as in dis:preset=fast.",
)
@click.option(
    "--format", "fmt", type=click.Choice(list(SUFFIXES)), default="npz", show_default=True
)
@click.option(
    "--rounding",
    type=click.Choice(["none", "float16", "uint8"]),
    default="float16",
    show_default=True,
    help="uint8: 256 levels from -20 to 20 pixels, as the reference's files.",
)
@stacked(FRAME_OPTIONS)
@click.option("--fps", default="native", show_default=True, help="native, or a rate such as 25.")
@click.option("--short-side", type=click.IntRange(16, 4096), default=256, show_default=True)
@click.option("--color", type=click.Choice(["auto", "legacy601"]), default="auto")
@click.option(
    "--full-speed",
    type=click.FloatRange(0, 1000, min_open=True),
    default=10.0,
    show_default=True,
    help="Pixels per frame that have full colour (--format video).",
)
@click.option("--flow-cache", type=click.Path(path_type=Path), help="Keep flows here for extract.")
@click.option("--overwrite", is_flag=True, help="Do finished videos again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per video on stdout.")
@DEBUG
def command(inputs: tuple[str, ...], out: Path, **choices: Any) -> int:
    """Optical flow of INPUTS: arrays to compute with, or a colour video to look at.

    One <id>.flow.npz (.safetensors, .mp4) and one <id>.flow.json per video. Hue is direction,
    saturation is speed.

    Example: tubelet flow clip.mp4 -o flow/ --method dis --format video
    """
    from tubelet.flow.base import flow_config
    from tubelet.flow.pool import shared_pool
    from tubelet.store.folder import check_id

    config = flow_config(choices["method"], rounding=choices["rounding"])
    shared_pool(config)  # what is missing is told before any video is opened
    parse_fps(choices["fps"])
    items = inputs_of(
        inputs, frames_fps=choices["frames_fps"], frames_pattern=choices["frames_pattern"]
    )
    for item in items:
        check_id(item.id)
    failed = 0
    for item in items:
        try:
            record = one_video(item, out, config, choices)
        except UsageError:
            raise
        except TubeletError as error:
            if choices["debug"]:
                raise
            failed += 1
            print(f"{item.id}: failed: {error}", file=sys.stderr)
            continue
        if choices["as_json"]:
            echo_json(record)
        else:
            size = "{1} x {0}".format(*record["size"])
            print(f"{item.id}: {record['pairs']} pairs of {size}", file=sys.stderr)
    return 1 if failed else 0


def one_video(
    item: Input, out: Path, config: FlowConfig, choices: dict[str, Any]
) -> dict[str, Any]:
    """Write one video's flow, unless it is there already; its record."""
    from tubelet.clips.modality import flow_facts
    from tubelet.clips.transform import ViewConfig, fitted_size
    from tubelet.decode.base import open_video
    from tubelet.extraction.recording import source_facts
    from tubelet.flow.files import write
    from tubelet.flow.pool import shared_pool
    from tubelet.inputs import on_disk, part_facts
    from tubelet.store.folder import read_record, write_json

    view = ViewConfig(choices["short_side"], 1, (), ())
    target = out / f"{item.id}{SUFFIXES[choices['fmt']]}"
    sidecar = out / f"{item.id}.flow.json"
    with (
        on_disk(item) as path,
        open_video(path, color=choices["color"], fps=item.fps, pattern=item.pattern) as reader,
    ):
        record: dict[str, Any] = {
            "id": item.id,
            "file": target.name,
            "flow": flow_facts(shared_pool(config)),
            "size": list(fitted_size(reader.info.height, reader.info.width, view)),
            "fps": choices["fps"],
            "color": choices["color"],
            **part_facts(item),
            "video": {**source_facts(reader.info), "source": item.shown},
        }
        if choices["fmt"] == "video":
            record["full_speed"] = choices["full_speed"]
        known = read_record(sidecar) or {}
        done = all(known.get(key) == value for key, value in record.items())
        if done and target.is_file() and not choices["overwrite"]:
            return known
        target.parent.mkdir(parents=True, exist_ok=True)
        found = pairs_of(reader, item, config, choices)
        if choices["fmt"] == "video":
            count = write_video(found, target, config, reader, choices)
        else:
            count = write(target, found, config, record)
        record["pairs"] = count
    write_json(sidecar, record)
    return record


def pairs_of(
    reader: VideoReader, item: Input, config: FlowConfig, choices: dict[str, Any]
) -> Iterator[tuple[float, Packed]]:
    """(time_s, packed flow) of every pair of the timeline."""
    from tubelet.clips.modality import each_pair, open_source, select
    from tubelet.clips.transform import ViewConfig
    from tubelet.inputs import seconds_of_range

    source = open_source(config, reader.info, color=choices["color"], cache=choices["flow_cache"])
    view = ViewConfig(choices["short_side"], 1, (), ())
    shots = select(reader.frames(), *seconds_of_range(item, reader.info.path))
    return each_pair(shots, source, view=view, fps=parse_fps(choices["fps"]))


def write_video(
    found: Iterator[tuple[float, Packed]],
    target: Path,
    config: FlowConfig,
    reader: VideoReader,
    choices: dict[str, Any],
) -> int:
    """Flow as colours, one picture per pair; how many."""
    from tubelet.decode.encode import Encoding, encode
    from tubelet.flow.color_wheel import colour
    from tubelet.flow.files import to_pixels
    from tubelet.types import Image

    count = 0

    def pictures() -> Iterator[Image]:
        nonlocal count
        for _, packed in found:
            height, width = packed.shape[0] & ~1, packed.shape[1] & ~1
            field = to_pixels(packed[:height, :width], config)
            count += 1
            yield colour(field, full=choices["full_speed"])

    rate = parse_fps(choices["fps"])
    encode(pictures(), target, encoding=Encoding(fps=rate or reader.info.fps))
    return count
