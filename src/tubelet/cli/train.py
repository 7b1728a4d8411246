"""`tubelet train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tubelet.cli.options import DEBUG, DEVICE
from tubelet.cli.places import OnDisk

if TYPE_CHECKING:
    from tubelet.train.multigrid import Plan


@click.command(name="train")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=OnDisk(), help="Folder of the run. [the stem]")
@click.option("--plan", "only_plan", is_flag=True, help="Print phases, sizes and saving; stop.")
@click.option("--devices", type=click.IntRange(1), default=1, help="With --plan: for so many.")
@click.option("--overwrite", is_flag=True, help="Start again where OUT has another run.")
@DEVICE
@DEBUG
def command(recipe: Path, out: Path | None, only_plan: bool, **choices: Any) -> int:
    """Train or fine-tune as RECIPE, a Python file with a function recipe(), says.

    The same command goes on where a stopped run was. Several devices:
    torchrun --nproc-per-node 8 -m tubelet train RECIPE

    Example: tubelet train extraction/recipe.py --plan
    """
    from tubelet.train.config import load_recipe, plan_of
    from tubelet.train.devices import Device, joined
    from tubelet.train.loop import batches_of, read_splits
    from tubelet.train.run_folder import resolved, train

    config = load_recipe(recipe)
    with_files = resolved(config, recipe.parent)
    if only_plan:
        split, _ = read_splits(config, recipe.parent)
        plan, samples = plan_of(with_files, devices=choices["devices"]), len(split.samples)
        device = Device("cpu", 0, choices["devices"])
        iterations = [
            len(batches_of(config, phase, epoch=phase.start, samples=samples, device=device))
            for phase in plan.phases
        ]
        click.echo("\n".join(plan_lines(plan, samples, iterations)))
        return 0
    with joined(choices["device"]) as device:
        total = plan_of(with_files, devices=device.devices).phases[-1].end
        run = train(
            config,
            out or Path(recipe.stem),
            folder=recipe.parent,
            device=device,
            overwrite=choices["overwrite"],
            on_epoch=(lambda r: click.echo(epoch_line(r, total), err=True))
            if device.leads
            else None,
        )
        if device.leads:
            if run.bad.count:
                click.echo(
                    f"{run.bad.count} samples could not be read: bad_samples.jsonl", err=True
                )
            click.echo(f"done: {total} epochs, best {run.best:.4f}" if run.val else "done")
    return 0


def plan_lines(plan: Plan, samples: int, iterations: Sequence[int]) -> list[str]:
    """The phases as a table, and what they save. iterations: of an epoch of each phase."""
    base = plan.base
    lines = [
        f"{samples} samples, base batch {base.batch_size} clips of {base.frames} x {base.crop} x "
        f"{base.crop} on {base.devices} device(s), {plan.base_epochs:g} epochs",
        "",
        f"{'epochs':>11}  {'clip':>11}  {'batch per device':<18} {'iterations':>10}  "
        f"{'rate':>9}  {'interval':<9} norm",
    ]
    for phase, count in zip(plan.phases, iterations, strict=True):
        shapes = phase.shapes
        batches = ", ".join(f"{s.batch}@{s.crop}" for s in shapes)
        low, high = phase.intervals
        norm = phase.norm.kind + (f" x{phase.norm.groups}" if phase.norm.groups > 1 else "")
        rate = plan.rate.at(max(phase.start, min(plan.rate.warmup_epochs, phase.end - 1)))
        clip, epochs = f"{phase.frames:>4} x {phase.crop:<4}", f"{phase.start:>4} - {phase.end:<4}"
        interval = f"{low}" if low == high else f"{low} - {high}"
        lines.append(
            f"{epochs}  {clip}  {batches:<18} {count:>10}  {rate:>9.3g}  {interval:<9} {norm}"
        )
    if plan.volume_saving != 1:
        lines += [
            "",
            f"{plan.rate.epochs:g} epochs; predicted saving against {plan.base_epochs:g} epochs "
            f"of full clips: {plan.volume_saving:.2f}x less frames x pixels, "
            f"{plan.iteration_saving:.2f}x fewer iterations",
        ]
    return lines


def epoch_line(record: dict[str, Any], total: int) -> str:
    """One epoch in words."""
    loss = "none" if record["loss"] is None else f"{record['loss']:.4f}"
    text = (
        f"epoch {record['epoch'] + 1}/{total}  {record['phase']}  loss {loss}  "
        f"rate {record['rate']:.3g}  {record['clips']} clips in {record['seconds']:.1f} s "
        f"({record['bound_by']} bound)"
    )
    if record["bad_samples"]:
        text += f"  {record['bad_samples']} bad samples so far"
    if "val" in record:
        text += "  val " + ", ".join(f"{k} {v:.4g}" for k, v in record["val"].items())
    return text
