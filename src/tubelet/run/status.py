"""How far an output folder is, read from its files alone: from any terminal, at any time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError
from tubelet.run.claims.disk import HIDDEN, living
from tubelet.store.failures import Failures
from tubelet.store.folder import RECIPE
from tubelet.store.listing import read_folder


@dataclass(frozen=True)
class Status:
    """videos, rows, hours: finished, by their JSON (not verified: that is `verify`). runs: living
    processes with their number of inputs. working: videos that are claimed now. left: inputs of the
    living runs that are neither done nor failed; left_s: the seconds they will take at the pace
    since the first of these runs began, None where nothing is known yet."""

    out: str
    videos: int
    rows: int
    hours: float
    failed: int
    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    working: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    left: int = 0
    left_s: float | None = None


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
        videos, rows, hours, recent = 0, 0, 0.0, 0
        since = min((run["since"] for run in runs), default=None)
        listing = read_folder(folder)
        for record in map(listing.video, listing.ids):
            if record.get("recipe") != listing.recipe_hash:
                continue
            videos += 1
            recent += since is not None and listing.sidecar(record["id"]).stat().st_mtime >= since
            rows += record["rows"]
            if record["rows"]:
                hours += (record["end_s"][-1] - record["start_s"][0]) / 3600
        failed = len(Failures(folder).read())
        left = max(0, _named(runs) - videos - failed)
        pace = recent / max(time.time() - since, 1e-3) if since is not None else 0.0
        left_s = left / pace if pace else None
        found.append(Status(str(folder), videos, rows, hours, failed, runs, working, left, left_s))
    return found


def _named(runs: list[dict[str, Any]]) -> int:
    """Inputs of all living runs together: shards are disjoint, other runs name the same ones."""
    most: dict[str | None, int] = {}
    for run in runs:
        most[run.get("shard")] = max(most.get(run.get("shard"), 0), run["inputs"])
    return max(most.pop(None, 0), sum(most.values()))
