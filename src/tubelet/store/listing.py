"""What is in an output folder: its recipe, its videos, its failures. Reads only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tubelet.errors import StoreError, UsageError
from tubelet.store.failures import Failures
from tubelet.store.folder import RECIPE, RESERVED, load, read_record
from tubelet.types import Features


@dataclass(frozen=True)
class Finished:
    """An output folder that is only read.

    record: of tubelet.json, {"hash", "recipe", "run", ...}. ids: videos with a sidecar, sorted.
    failed: ids of failures.jsonl that have none.
    """

    path: Path
    record: dict[str, Any]
    ids: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def recipe_hash(self) -> str:
        return str(self.record.get("hash"))

    def sidecar(self, identity: str) -> Path:
        return self.path / f"{identity}.json"

    def video(self, identity: str) -> dict[str, Any]:
        """The sidecar of a video. StoreError where it is not readable."""
        record = read_record(self.sidecar(identity))
        if record is None or not isinstance(record.get("files"), dict):
            raise StoreError(f"{self.sidecar(identity)}: not readable; extract {identity} again")
        return record

    def load(self, identity: str, *, verify: bool = True) -> Features:
        """Features of a video, verified. StoreError also for rows of another recipe."""
        features = load(self.sidecar(identity), verify=verify)
        if features.provenance.get("recipe") != self.recipe_hash:
            raise StoreError(
                f"{self.sidecar(identity)}: made by another recipe than {self.path}; "
                "run the same extract again to renew it"
            )
        return features


def read_folder(path: str | Path) -> Finished:
    """UsageError for what is no output folder of one model."""
    path = Path(path)
    record = read_record(path / RECIPE)
    if record is None or "hash" not in record:
        models = [p.parent.name for p in sorted(path.glob(f"*/{RECIPE}"))] if path.is_dir() else []
        if models:
            raise UsageError(f"{path} holds several models; name one: {', '.join(models)}")
        raise UsageError(f"{path}: no {RECIPE} there; is this the OUT of an extract?")
    ids = tuple(sorted(ids_below(path)))
    known = set(ids)
    failed = [line["id"] for line in read_failures(path) if line["id"] not in known]
    return Finished(path, record, ids, tuple(failed))


def read_folders(path: str | Path) -> list[Finished]:
    """OUT itself, or the folders of its models, sorted. UsageError where there is no recipe."""
    path = Path(path)
    if not (path / RECIPE).exists():
        below = [read_folder(file.parent) for file in sorted(path.glob(f"*/{RECIPE}"))]
        if below:
            return below
    return [read_folder(path)]


def read_failures(path: Path) -> list[dict[str, Any]]:
    """Lines of failures.jsonl; lines that are not ours are left out."""
    return list(Failures(path).read().values())


def ids_below(root: Path) -> Iterator[str]:
    """Ids of the videos that have a sidecar."""
    for folder, names, files in os.walk(root):
        here = Path(folder)
        top = here == root
        names[:] = [n for n in names if not n.startswith(".") and not (top and n in RESERVED)]
        for name in files:
            if not name.endswith(".json") or name.startswith(".") or (top and name == RECIPE):
                continue
            yield (here / name).relative_to(root).as_posix().removesuffix(".json")
