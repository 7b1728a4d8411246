"""`tubelet pack`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tubelet.cli.options import DEBUG
from tubelet.cli.output import echo_json
from tubelet.cli.places import OnDisk, Readable
from tubelet.store.export.layouts import LAYOUTS, Packing, pack
from tubelet.store.listing import read_folder


@click.command(name="pack")
@click.argument("out", type=Readable())
@click.option("--layout", required=True, help=f"One of {', '.join(LAYOUTS)}.")
@click.option("-o", "--dest", required=True, type=OnDisk(), help="What to make.")
@click.option("--tap", default="pool", show_default=True, help="pool, logits or a stored tap.")
@click.option("--prefix", default="", help="Before each id, such as v_ for ActivityNet.")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), help="[the layout's]")
@click.option("--allow-missing", is_flag=True, help="Pack what is there of an unfinished folder.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier pack made.")
@click.option("--json", "as_json", is_flag=True, help="A machine-readable summary on stdout.")
@DEBUG
def command(out: Path, dest: Path, **choices: Any) -> int:
    """The features of OUT as files that other tools read.

    \b
    npy            a folder, <id>.npy [N, D]
    actionformer   a folder, <id>.npz with the key feats (TriDet reads it too)
    opentad        a folder, <id>.npy and missing_files.txt
    qvhighlights   a folder, <id>.npz with the key features, float16 (Moment-DETR and after)
    ego4d          a folder, <id>.pt with one tensor
    ms-tcn         a folder, <id>.npy transposed [D, N]
    vslnet         a folder, <id>.npy and feature_shapes.json
    mmaction2      a folder, <id>.csv with a line of column names
    hdf5           one file, a dataset per id and its times
    parquet        one file, a row per window with its times
    safetensors    one file, a tensor per id and its times

    Rows [N, T', D] (--keep time) become [N * T', D]. Every file is verified as it is read.

    Example: tubelet pack features/ --layout qvhighlights -o slowfast_features/
    """
    choices.pop("debug")
    as_json = choices.pop("as_json")
    done = pack(read_folder(out), dest, Packing(**choices))
    rows = sum(done.rows.values())
    for identity, why in done.missing.items():
        print(f"{identity}: not packed: {why}", file=sys.stderr)
    if as_json:
        summary = {"dest": str(dest), "rows": done.rows, "missing": done.missing}
        echo_json(summary)
    else:
        print(f"{len(done.rows)} videos, {rows} rows -> {dest}", file=sys.stderr)
    return 1 if done.missing else 0
