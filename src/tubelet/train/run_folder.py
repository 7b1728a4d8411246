"""A training run with a folder: resume, checkpoints, log. `tubelet train` is this and a terminal.

See `checkpoint.py` for what OUT holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tubelet.config import to_plain
from tubelet.errors import UsageError
from tubelet.machine.atomic import atomic_file
from tubelet.models.registry import BEST
from tubelet.store.folder import write_json
from tubelet.train.config import TrainConfig
from tubelet.train.devices import Device
from tubelet.train.loop import Run, read_splits
from tubelet.train.run_state import (
    CHECKPOINT,
    load_state,
    save_state,
    save_weights,
)


def train(
    config: TrainConfig,
    out: Path,
    *,
    folder: Path = Path("."),
    device: Device | None = None,
    overwrite: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Train, or go on with what OUT has. `folder`: what names of the recipe are relative to.

    on_epoch is told the record of every epoch, as in log.jsonl. Raises TubeletError kinds; all
    that can be known before the first iteration is refused before it.
    """
    device = device or Device("cpu")
    config = resolved(config, folder)
    train_split, val = read_splits(config, folder)
    writer = _tensorboard(out) if config.tensorboard and device.leads else None
    run = Run(config, train=train_split, val=val, device=device)
    network, identity = config.network.name, config.identity()
    stored = out / CHECKPOINT
    if stored.exists() and not overwrite:
        run.restore(load_state(stored, identity=identity, network=network))
    if device.leads:
        write_json(out / "recipe.json", to_plain(config))

    def save() -> None:
        state = run.state()
        if device.leads:
            save_state(stored, {"identity": identity, "network": network, **state})

    def on_step() -> None:
        if config.save_every and run.iteration % config.save_every == 0:
            save()

    run.on_step = on_step
    for record in run.epochs():
        errors = device.gather(run.bad.errors)
        if device.leads:
            weights = run.evaluation_model().state_dict()
            if record.get("best", run.val is None):
                save_weights(out / BEST, weights, run.about)
            save_weights(out / "last.safetensors", weights, run.about)
            _write_lines(out / "log.jsonl", run.history)
            bad = [{"path": p, "error": e} for found in errors for p, e in found.items()]
            _write_lines(out / "bad_samples.jsonl", bad)
            if writer is not None:
                _write_scalars(writer, record)
        save()
        if on_epoch is not None:
            on_epoch(record)
    return run


def resolved(config: TrainConfig, folder: Path) -> TrainConfig:
    """The recipe with the files of its network relative to `folder`; missing ones are refused."""
    network = config.network
    yaml = network.name.endswith((".yaml", ".yml"))
    for name in ("weights", "inflate", *(["name"] if yaml else [])):
        value = getattr(network, name)
        if value is not None and value != "released":
            path = folder / value
            if not path.is_file():
                raise UsageError(f"{name}={value!r}: no such file ({path})")
            network = replace(network, **{name: str(path)})
    return replace(config, network=network)


def _write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records)
    with atomic_file(path) as file:
        file.write(text.encode())


def _tensorboard(out: Path) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "tensorboard=True needs the package: pip install 'tubelet[tensorboard]'"
        ) from error
    return SummaryWriter(str(out / "tensorboard"))


def _write_scalars(writer: Any, record: dict[str, Any]) -> None:
    epoch = record["epoch"]
    for name in ("loss", "rate", "seconds", "decode_wait_s", "bad_samples"):
        if record[name] is not None:
            writer.add_scalar(f"train/{name}", record[name], epoch)
    for name, value in record.get("val", {}).items():
        writer.add_scalar(f"val/{name}", value, epoch)
    writer.flush()
