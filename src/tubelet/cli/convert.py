"""`tubelet convert`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tubelet.cli.options import DEBUG
from tubelet.errors import UsageError


@click.command(name="convert")
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, help="The safetensors file to write.")
@click.option("-m", "--model", help="Its network (an id or a PySlowFast YAML). [found by content]")
@click.option("--inflate", is_flag=True, help="2-D weights into the video network of --model.")
@click.option("--overwrite", is_flag=True, help="Replace the output.")
@DEBUG
def command(
    checkpoint: str, output: str, model: str | None, inflate: bool, overwrite: bool, debug: bool
) -> None:
    """A checkpoint of any known layout as safetensors under this project's names.

    The header keeps the layout, the sha256 of the original and where it came from. Loading the
    result gives the same network, bit for bit.

    Example: tubelet convert SLOWFAST_8x8_R50.pkl -o slowfast.safetensors
    """
    target = Path(output)
    if target.suffix != ".safetensors":
        raise UsageError(f"-o {output!r}: the output is a .safetensors file")
    if target.exists() and not overwrite:
        raise UsageError(f"{output} exists; --overwrite replaces it")
    if inflate:
        click.echo(inflated(Path(checkpoint), target, model))
        return
    from tubelet.models.described import read_description
    from tubelet.models.identify import identify
    from tubelet.models.registry import create_model
    from tubelet.models.weights.load import FORMAT, save_atomically

    if read_description(Path(checkpoint)) is not None:
        raise UsageError(
            f"{checkpoint} was written by `tubelet train`: it is such a file already, and a model "
            f"of its own (-m {checkpoint})"
        )
    name = model or identify(checkpoint)
    network = create_model(name, weights=checkpoint)
    metadata = {
        "format": FORMAT,
        "layout": network.weights_layout,
        "source": os.path.basename(network.weights_source),
        "source_sha256": network.weights_sha256,
        "network": name,
    }
    save_atomically(network, target, metadata=metadata)
    click.echo(f"{target}: {name}, {network.num_classes} classes, from {network.weights_layout}")


def inflated(checkpoint: Path, target: Path, model: str | None) -> str:
    """`--inflate`: a network with 2-D weights, saved; what became of them, in words."""
    from tubelet.models.registry import create_model
    from tubelet.models.weights.inflate import inflate_file

    if model is None:
        raise UsageError("--inflate needs -m, the video network that takes the 2-D weights")
    if not checkpoint.is_file():
        raise UsageError(f"{checkpoint}: no such file")
    network = create_model(model, weights=None)
    report = inflate_file(checkpoint, network, target, origin=checkpoint.name, network=model)
    left = [key for key in report.left if "num_batches_tracked" not in key]
    return (
        f"{target}: {model} from {report.source}, {len(report.inflated)} kernels inflated, "
        f"{len(report.copied)} tensors copied, {len(report.resized)} tables resized; left as "
        f"initialised: {', '.join(left) or 'nothing'}"
    )
