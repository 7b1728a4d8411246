"""What was measured on this machine before: `tubelet bench` writes it, `tubelet plan` reads it.

One JSON file in the cache folder. A rate belongs to one CPU, torch build and version of tubelet;
with another one it is as if nothing had been measured. No torch here.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tubelet import __version__
from tubelet.bench.rounds import cores, machine_name
from tubelet.machine.atomic import atomic_file
from tubelet.machine.cache import cache_folder
from tubelet.models import zoo


def facts() -> dict[str, Any]:
    """What a measured rate depends on, beside the network."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    return {"cpu": machine_name(), "cores": cores(), "torch": torch, "tubelet": __version__}


def results_file() -> Path:
    return cache_folder() / "bench.json"


def remembered() -> dict[str, Any]:
    """The results of this very machine, as `bench.run.measure` gives them; {} where none are."""
    try:
        found = json.loads(results_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("machine") == facts() else {}


def remember(result: dict[str, Any]) -> Path:
    """Keep a result; models that only earlier runs on this machine measured stay."""
    new = {canonical(model): found for model, found in result["models"].items()}
    models = {**remembered().get("models", {}), **new}
    target = results_file()
    with atomic_file(target) as handle:
        handle.write(json.dumps({**result, "models": models}, indent=1).encode())
    return target


def canonical(model: str) -> str:
    """The table's id of a model, whatever name it was called by."""
    entry = zoo.find(model)
    return entry.id if entry is not None else model


def seconds_per_clip(model: str, precision: str) -> float | None:
    """Measured wall-clock seconds at batch 1 with all cores; None where it was not measured."""
    try:
        found = remembered()["models"][canonical(model)]["precisions"][precision]["batches"]["1"]
        return float(found["seconds_per_clip"][0])
    except (KeyError, TypeError, IndexError, ValueError):
        return None
