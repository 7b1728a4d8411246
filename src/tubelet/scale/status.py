"""How far an output folder is, read from its files alone: from any terminal, at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError
from tubelet.scale.claims import HIDDEN, living
from tubelet.store.base import RECIPE
from tubelet.store.failures import Failures
from tubelet.store.listing import read_folder


@dataclass(frozen=True)
class Status:
    """videos, rows, hours: finished, by their JSON (not verified: that is `verify`). runs: living
    processes with their number of inputs. working: videos that are claimed now."""

    out: str
    videos: int
    rows: int
    hours: float
    failed: int
    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    working: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def status_of(out: Path) -> list[Status]:
    """One entry per folder with a recipe: OUT itself, or one per model. UsageError for others."""
    folders = [p.parent for p in [out / RECIPE, *sorted(out.glob(f"*/{RECIPE}"))] if p.exists()]
    if not folders:
        raise UsageError(f"{out}: no {RECIPE} in it; is this an output folder?")
    hidden = out / HIDDEN
    runs = [run for run in living(hidden / "runs") if run.get("inputs")]
    working = living(hidden / "claims")
    found: list[Status] = []
    for folder in folders:
        videos, rows, hours = 0, 0, 0.0
        listing = read_folder(folder)
        for record in map(listing.video, listing.ids):
            if record.get("recipe") != listing.recipe_hash:
                continue
            videos += 1
            rows += record["rows"]
            if record["rows"]:
                hours += (record["end_s"][-1] - record["start_s"][0]) / 3600
        failed = len(Failures(folder).read())
        found.append(Status(str(folder), videos, rows, hours, failed, runs, working))
    return found
