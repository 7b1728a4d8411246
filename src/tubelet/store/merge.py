"""Folders of one recipe -> one folder. Files are copied, verified while they are copied."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tubelet.config import differences
from tubelet.errors import RecipeMismatch, StoreError, UsageError
from tubelet.machine.atomic import atomic_file
from tubelet.store.folder import RECIPE, json_bytes, write_json
from tubelet.store.ids import check_id
from tubelet.store.listing import Finished, read_failures, read_folder
from tubelet.store.named_files import named_file, named_files


@dataclass(frozen=True)
class Merged:
    """copied: ids that came; same: ids that were there already, with the same bytes;
    damaged: {id: why}, of files that were not copied; notes: shards that are missing."""

    copied: list[str]
    same: list[str]
    damaged: dict[str, str]
    notes: list[str] = field(default_factory=list[str])


def merge(sources: Sequence[Path], dest: Path) -> Merged:
    """Join `sources` into `dest`, a new folder or one of the same recipe. The sources stay.

    RecipeMismatch for another recipe or format; UsageError, before anything is copied, for an id
    that two folders have with different bytes. A second run does what is missing.
    """
    folders = [read_folder(path) for path in sources]
    first = folders[0]
    there = [read_folder(dest)] if (dest / RECIPE).exists() else []
    if not there and dest.exists() and any(dest.iterdir()):
        raise UsageError(f"{dest} is not empty and has no {RECIPE}; choose another -o")
    for folder in (*folders[1:], *there):
        _check_same_recipe(first, folder)
    owners = _owners([*there, *folders])
    if not there:
        run = {k: v for k, v in first.record.get("run", {}).items() if not k.startswith("shard")}
        write_json(dest / RECIPE, {**first.record, "run": run})
    copied: list[str] = []
    same: list[str] = []
    damaged: dict[str, str] = {}
    for identity, owner in owners.items():
        check_id(identity)
        if owner.path.resolve() == dest.resolve():
            same.append(identity)
            continue
        try:
            _copy(owner, identity, dest)
        except StoreError as error:
            damaged[identity] = str(error)
        else:
            copied.append(identity)
    _join_failures([*there, *folders], dest, done={*copied, *same})
    return Merged(copied, same, damaged, _shard_notes(folders))


def _shard_notes(folders: Sequence[Finished]) -> list[str]:
    """What is odd about the shards (`extract --shard i/n`) that these folders were made by."""
    plans: dict[str, set[str]] = {}
    for folder in folders:
        run = folder.record.get("run", {})
        if "shard_plan" in run:
            plans.setdefault(run["shard_plan"], set()).add(run["shard"])
    notes: list[str] = []
    if len(plans) > 1:
        notes.append(
            f"shards of {len(plans)} different plans ({', '.join(sorted(plans))}): their lists or "
            "files were not the same, so a video may be in none of them; run the whole list into "
            "the joined folder to be sure"
        )
    for shards in plans.values():
        count = int(next(iter(shards)).partition("/")[2])
        absent = [f"{k}/{count}" for k in range(count) if f"{k}/{count}" not in shards]
        if absent:
            notes.append(f"shard {', '.join(absent)} is not among these folders")
    return notes


def _check_same_recipe(first: Finished, other: Finished) -> None:
    if other.recipe_hash != first.recipe_hash:
        changed = differences(first.record.get("recipe", {}), other.record.get("recipe", {}))
        raise RecipeMismatch(
            f"{other.path} was made with another recipe than {first.path} "
            f"({'; '.join(changed[:6])}); folders of one recipe can be merged"
        )
    formats = [folder.record.get("format", "npy") for folder in (first, other)]
    if formats[0] != formats[1]:
        raise RecipeMismatch(f"{first.path} holds {formats[0]} files, {other.path} {formats[1]}")


def _owners(folders: Sequence[Finished]) -> dict[str, Finished]:
    """id -> the first folder that has it. UsageError where two differ in their bytes."""
    owners: dict[str, Finished] = {}
    for folder in folders:
        for identity in folder.ids:
            if identity not in owners:
                owners[identity] = folder
                continue
            ours, theirs = owners[identity].video(identity), folder.video(identity)
            if ours["files"] != theirs["files"]:
                raise UsageError(
                    f"{identity}: {owners[identity].path} and {folder.path} have different "
                    "features of that id (two videos of one name?); remove one of them"
                )
    return owners


def _copy(owner: Finished, identity: str, dest: Path) -> None:
    """The arrays, each against its sha256, and then the sidecar."""
    record = owner.video(identity)
    if record.get("recipe") != owner.recipe_hash:
        raise StoreError(f"{owner.sidecar(identity)}: made by another recipe; extract it again")
    sidecar = owner.sidecar(identity)
    for name, digest in named_files(record, identity, by=sidecar).items():
        source = named_file(owner.path, name, by=sidecar)
        _copy_file(source, named_file(dest, name, by=sidecar), digest)
    write_json(dest / f"{identity}.json", record)


def _copy_file(source: Path, target: Path, digest: str) -> None:
    seen = hashlib.sha256()
    with atomic_file(target) as out:
        try:
            with open(source, "rb") as file:
                while piece := file.read(1 << 20):
                    seen.update(piece)
                    out.write(piece)
        except OSError as error:
            raise StoreError(f"{source}: cannot be read: {error.strerror or error}") from error
        if seen.hexdigest() != digest:
            raise StoreError(f"{source}: damaged (sha256 differs); extract it again")


def _join_failures(folders: Sequence[Finished], dest: Path, *, done: set[str]) -> None:
    lines: dict[str, dict[str, Any]] = {}
    for folder in folders:
        lines |= {line["id"]: line for line in read_failures(folder.path)}
    left = [line for identity, line in lines.items() if identity not in done]
    path = dest / "failures.jsonl"
    if not left:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as file:
        for line in left:
            file.write(json_bytes(line) + b"\n")
