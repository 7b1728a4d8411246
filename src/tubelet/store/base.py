"""The output folder: one recipe, one set of files per video, and the answer to `is it done?`.

    OUT/tubelet.json                      the recipe and its hash
    OUT/<id>.npy  OUT/<id>.json           the tap "pool" and everything known about its rows
    OUT/taps/<tap>/<id>.npy               other taps
    OUT/logits/<id>.npy                   class scores before softmax
    OUT/failures.jsonl                    one line per failed input

Arrays are written first and `<id>.json` last: a video is done when its JSON is there, was made by
this recipe from a file of this size, and every array it lists has the sha256 it lists. So a kill at
any moment leaves either a finished video or one that is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.config import differences, stable_hash
from tubelet.errors import RecipeMismatch, StoreError, UsageError
from tubelet.store import npy
from tubelet.store.atomic import atomic_file
from tubelet.types import Features

CODECS: dict[str, ModuleType] = {"npy": npy}
RECIPE = "tubelet.json"
FAILURES = "failures.jsonl"
RESERVED = ("taps", "logits", "flow")
ROOT_NAMES = ("tubelet", "failures")
SCHEMA = 1


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def check_id(identity: str) -> None:
    """UsageError for ids that would leave OUT or collide with the folder's own names."""
    parts = PurePosixPath(identity).parts
    bad = (
        not identity
        or identity.startswith(("/", "\\"))
        or "\0" in identity
        or any(part in ("..", ".") for part in identity.replace("\\", "/").split("/"))
        or (len(identity) > 1 and identity[1] == ":")
    )
    if bad:
        raise UsageError(f"id {identity!r}: an id must be a relative path inside OUT")
    if (
        parts[0] in RESERVED
        or identity in ("tubelet", "failures")
        or parts[0].startswith(".tubelet")
    ):
        raise UsageError(
            f"id {identity!r} collides with a name of the output folder ({', '.join(RESERVED)}, "
            "tubelet, failures); rename the video or give ids in a list"
        )
    if any(len(part.encode()) > 240 for part in parts):
        raise UsageError(
            f"id {identity[:60]!r}...: a name is longer than 240 bytes; give ids in a list"
        )


@dataclass(frozen=True)
class Folder:
    """An output folder opened for one recipe. `suffix` is that of its format."""

    path: Path
    recipe_hash: str
    codec: ModuleType

    @property
    def suffix(self) -> str:
        return self.codec.SUFFIX

    def sidecar(self, identity: str) -> Path:
        return self.path / f"{identity}.json"

    def array_file(self, identity: str, kind: str = "pool") -> str:
        """Relative path of an array: kind is "pool", "logits" or a tap's name."""
        folder = {"pool": "", "logits": "logits/"}.get(kind, f"taps/{kind}/")
        return f"{folder}{identity}{self.suffix}"

    def is_done(self, identity: str, *, source_size: int | None) -> bool:
        """Whether this video is complete, verified and from a source of this size."""
        record = read_record(self.sidecar(identity))
        if record is None or record.get("recipe") != self.recipe_hash:
            return False
        if source_size is not None and record.get("size_bytes") != source_size:
            return False
        files = record.get("files")
        if not isinstance(files, dict) or not files:
            return False
        for name, digest in files.items():
            path = self.path / name
            if not path.is_file() or sha256_of(path) != digest:
                return False
        return True

    def write(self, identity: str, features: Features) -> None:
        """All arrays, then the JSON. StoreError when something cannot be written."""
        check_id(identity)
        arrays: dict[str, NDArray[Any]] = {"pool": features.values, **features.taps}
        if features.logits is not None:
            arrays["logits"] = features.logits
        times = {k: getattr(features, k) for k in ("start_s", "end_s", "center_s")}
        files: dict[str, str] = {}
        for kind, values in arrays.items():
            name = self.array_file(identity, kind)
            with atomic_file(self.path / name) as file:
                self.codec.write(file, values, times)
            files[name] = sha256_of(self.path / name)
        record = {
            "schema": SCHEMA,
            "id": identity,
            **features.provenance,
            "recipe": self.recipe_hash,
            "rows": len(features.values),
            "shape": list(features.values.shape),
            "dtype": str(features.values.dtype),
            **{k: v.tolist() for k, v in times.items()},
            "sha256": files[self.array_file(identity)],
            "files": files,
        }
        write_json(self.sidecar(identity), record)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Atomic JSON with a final newline; NaN is refused (ValueError)."""
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "surrogateescape") + b"\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file, or None where there is none that can be read."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def open_folder(
    path: Path, *, recipe: Mapping[str, Any], run: Mapping[str, Any], fmt: str, overwrite: bool
) -> Folder:
    """Create or reopen OUT. RecipeMismatch, naming what differs, when another recipe made it.

    `run` (device, workers, versions) is recorded beside the recipe, outside its hash.
    overwrite: take the folder over; videos of the other recipe are then done again.
    """
    if fmt not in CODECS:
        raise UsageError(f"format {fmt!r} is unknown; it must be one of {', '.join(CODECS)}")
    digest = stable_hash(recipe)
    record = path / RECIPE
    existing = read_record(record)
    if existing is None and record.exists() and not overwrite:
        raise StoreError(f"{record}: not readable as JSON; remove it or pass --overwrite")
    if existing is not None and existing.get("hash") != digest and not overwrite:
        changed = "; ".join(differences(existing.get("recipe", {}), recipe)[:6])
        raise RecipeMismatch(
            f"{path} was made with another recipe ({changed}); choose another -o, or --overwrite"
        )
    if existing is None or existing.get("hash") != digest or existing.get("run") != run:
        write_json(record, {"schema": SCHEMA, "hash": digest, "recipe": recipe, "run": run})
    if not os.access(path, os.W_OK):
        raise StoreError(f"{path}: not writable")
    return Folder(path, digest, CODECS[fmt])


def load(path: str | Path) -> Features:
    """Features from `<id>.json` or from any array file of a video (its JSON must be beside it).

    StoreError when a file is missing, damaged or not one of ours.
    """
    path = Path(path)
    sidecar = path if path.suffix == ".json" else path.with_name(path.stem + ".json")
    record = read_record(sidecar)
    if record is None or "files" not in record:
        raise StoreError(f"{path}: no readable {sidecar.name} beside it; is this a feature file?")
    root = sidecar
    for _ in PurePosixPath(record["id"]).parts:
        root = root.parent
    arrays: dict[str, NDArray[Any]] = {}
    for name, digest in record["files"].items():
        file = root / name
        if not file.is_file() or sha256_of(file) != digest:
            raise StoreError(f"{file}: missing or damaged (sha256 differs); extract it again")
        kind = PurePosixPath(name).parts
        label = kind[1] if kind[0] == "taps" else kind[0] if kind[0] == "logits" else "pool"
        arrays[label] = CODECS[file.suffix[1:]].read(file)
    times = {k: np.asarray(record.pop(k), np.float64) for k in ("start_s", "end_s", "center_s")}
    logits = arrays.pop("logits", None)
    return Features(arrays.pop("pool"), **times, provenance=record, taps=arrays, logits=logits)
