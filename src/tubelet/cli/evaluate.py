"""`tubelet evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tubelet.cli.options import DEBUG, DEVICE, WEIGHTS
from tubelet.cli.places import OnDisk


@click.command(name="evaluate")
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=OnDisk(), required=True, help="Folder.")
@WEIGHTS
@click.option("--views", default="1x1", show_default=True, help="TxS views, e.g. 10x3.")
@click.option("--classes", help="A file with a class name per line. [the weights' own]")
@click.option("--root", help="What paths of the list are relative to. [the list's folder]")
@click.option("--shard", default="0/1", show_default=True, help="i/n: every n-th video from i.")
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="The metrics as one JSON object.")
@DEBUG
def command(model: str, data: Path, out: Path, **choices: Any) -> int:
    """Test MODEL (a run folder, its .safetensors, or a model id) on DATA, labelled videos.

    DATA is a list or a folder per class, as for `tubelet train`. The same command goes on where a
    stopped one was; shards may run at once, into one folder.

    Example: tubelet evaluate run/ val.csv -o scores --views 10x3
    """
    from tubelet.extraction.classify import parse_views
    from tubelet.models.class_names import FILES, labels
    from tubelet.models.device import resolve_device
    from tubelet.run.share.shard import parse_shard
    from tubelet.train.evaluate import Evaluation, open_subject
    from tubelet.train.samples import read_split

    views, shard = parse_views(choices["views"]), parse_shard(choices["shard"])
    subject = open_subject(model, weights=choices["weights"])
    classes: Any = subject.classes or subject.model.num_classes
    dataset = getattr(subject.model, "dataset", None)
    if subject.classes is None and dataset in FILES:
        classes = labels(dataset)
    if choices["classes"]:
        classes = Path(choices["classes"]).read_text(encoding="utf-8").split("\n")
        classes = [line.strip() for line in classes if line.strip()]
    split = read_split(data, classes=classes, root=choices["root"], multi_label=subject.multi_label)
    evaluation = Evaluation(out, subject, split, views=views, shard=(shard.index, shard.count))

    def tell(sample: Any, error: str | None) -> None:
        click.echo(f"{sample.path}: {'failed: ' + error if error else 'done'}", err=True)

    progress = evaluation.run(device=resolve_device(choices["device"]), on_video=tell)
    left = progress.total - progress.done - progress.failed
    if left:
        click.echo(f"{left} videos are left to other shards; no metrics yet", err=True)
        return 1 if progress.failed else 0
    summary = evaluation.report()
    if choices["as_json"]:
        click.echo(json.dumps(summary))
    else:
        click.echo("\n".join(f"{name:<12} {value}" for name, value in summary.items()))
        if not (out / "predictions.parquet").exists():
            click.echo("predictions.parquet is not written: pyarrow is not installed", err=True)
    return 1 if progress.failed else 0
