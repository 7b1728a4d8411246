"""What consumers of features read: the same rows as other people's file layouts.

A layout is one file per video (a folder), or one file for the whole set. DEST appears whole or not
at all: everything is written beside it and renamed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError, UnknownName, UsageError, did_you_mean
from tubelet.machine.atomic import TEMPORARY, fsync_folder
from tubelet.store.export import containers
from tubelet.store.folder import RECIPE, read_record, write_json
from tubelet.store.listing import Finished
from tubelet.types import Features

Array = NDArray[Any]


@dataclass(frozen=True)
class ExportLayout:
    """One way of storing a set.

    suffix: of each video's file, or of the one file. write: one video's rows into an open file.
    whole: instead, every video into one file. dtype: what the consumer wants, None for as it is.
    extra: further files of the folder, from {id: rows} and the missing ids.
    """

    about: str
    suffix: str
    write: Callable[[IO[bytes], Array], None] | None = None
    whole: Callable[[Path, containers.Videos, dict[str, str]], None] | None = None
    dtype: str | None = None
    extra: Callable[[Path, dict[str, int], Sequence[str]], None] | None = None


@dataclass(frozen=True)
class Packing:
    """Choices of `pack`. tap: "pool", "logits" or a stored tap. prefix: before each id."""

    layout: str
    tap: str = "pool"
    prefix: str = ""
    dtype: str | None = None
    allow_missing: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Packed:
    """What was written: {id: rows}, and what could not be {id: why}."""

    rows: dict[str, int]
    missing: dict[str, str]


def _npz(key: str) -> Callable[[IO[bytes], Array], None]:
    def write(file: IO[bytes], values: Array) -> None:
        np.savez(file, **{key: values})  # pyright: ignore[reportArgumentType]

    return write


def _npy(file: IO[bytes], values: Array) -> None:
    np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)


def _csv(file: IO[bytes], values: Array) -> None:
    head = ",".join(f"f{column}" for column in range(values.shape[1]))
    np.savetxt(file, values, fmt="%.9g", delimiter=",", header=head, comments="")


def _transposed(file: IO[bytes], values: Array) -> None:
    _npy(file, values.T)


def _torch(file: IO[bytes], values: Array) -> None:
    import torch

    torch.save(torch.from_numpy(np.array(values)), file)


def _missing_files(folder: Path, rows: dict[str, int], missing: Sequence[str]) -> None:
    text = "".join(f"{identity}\n" for identity in missing)
    (folder / "missing_files.txt").write_bytes(text.encode("utf-8", "surrogateescape"))


def _shapes(folder: Path, rows: dict[str, int], missing: Sequence[str]) -> None:
    (folder / "feature_shapes.json").write_text(json.dumps(rows) + "\n", encoding="utf-8")


LAYOUTS: dict[str, ExportLayout] = {
    "npy": ExportLayout("<id>.npy [N, D]", ".npy", _npy),
    "actionformer": ExportLayout(
        "<id>.npz, key `feats` [N, D]", ".npz", _npz("feats"), dtype="float32"
    ),
    "opentad": ExportLayout(
        "<id>.npy [N, D] and missing_files.txt", ".npy", _npy, dtype="float32", extra=_missing_files
    ),
    "qvhighlights": ExportLayout(
        "<id>.npz, key `features` [N, D] float16", ".npz", _npz("features"), dtype="float16"
    ),
    "ego4d": ExportLayout("<id>.pt, one tensor [N, D]", ".pt", _torch, dtype="float32"),
    "ms-tcn": ExportLayout("<id>.npy, transposed [D, N]", ".npy", _transposed, dtype="float32"),
    "vslnet": ExportLayout(
        "<id>.npy [N, D] and feature_shapes.json", ".npy", _npy, dtype="float32", extra=_shapes
    ),
    "mmaction2": ExportLayout("<id>.csv, a line of names and N of D numbers", ".csv", _csv),
    "hdf5": ExportLayout("one file, a dataset per id", ".hdf5", whole=containers.hdf5),
    "parquet": ExportLayout("one file, a row per window", ".parquet", whole=containers.parquet),
    "safetensors": ExportLayout(
        "one file, a tensor per id", ".safetensors", whole=containers.safetensors
    ),
}


def pack(source: Finished, dest: Path, packing: Packing) -> Packed:
    """Write `source` to `dest` in a layout. Everything is read through `load`, so verified.

    UsageError for an unknown layout, an unfinished folder without `allow_missing`, a `dest` that
    exists without `overwrite`. StoreError where `dest` cannot be written.
    """
    layout = find_layout(packing.layout)
    _check_dest(dest, source, packing)
    good, missing = _survey(source, packing)
    if missing and not packing.allow_missing:
        first = next(iter(missing.items()))
        raise UsageError(
            f"{source.path} is not complete: {len(missing)} videos are missing, such as "
            f"{first[0]} ({first[1]}); finish the extract, or --allow-missing"
        )
    if not good:
        raise UsageError(f"{source.path}: no finished video to pack")
    latest = lru_cache(maxsize=1)(source.load)
    rows: dict[str, int] = {}

    def stored(identity: str) -> Array:
        values = rows_for(latest(identity), packing, layout)
        rows[videos.name(identity)] = len(values)
        return values

    videos = containers.Videos(tuple(good), stored, latest, packing.prefix)
    if layout.whole is not None:
        containers.check_names(videos, packing.layout)
    about = {"layout": packing.layout, "recipe": source.recipe_hash, "tap": packing.tap}
    with _appears(dest) as target:
        if layout.whole is not None:
            facts = {**about, "source_recipe": json.dumps(source.record.get("recipe"))}
            layout.whole(target, videos, facts)
        else:
            _files(target, layout, videos)
            if layout.extra is not None:
                layout.extra(target, rows, [videos.name(identity) for identity in missing])
            record = {**about, "source": source.record, "rows": rows, "missing": missing}
            write_json(target / RECIPE, {"packed": record})
    return Packed(rows, missing)


def find_layout(name: str) -> ExportLayout:
    """UnknownName, with near names."""
    if name not in LAYOUTS:
        raise UnknownName(
            f"layout {name!r} is unknown; it is one of "
            f"{', '.join(LAYOUTS)}{did_you_mean(name, LAYOUTS)}"
        )
    return LAYOUTS[name]


def rows_for(features: Features, packing: Packing, layout: ExportLayout) -> Array:
    """The array that a layout stores: [N, D]; [N, T', D] becomes [N * T', D] in time order."""
    arrays = {"pool": features.values, **features.taps}
    if features.logits is not None:
        arrays["logits"] = features.logits
    if packing.tap not in arrays:
        raise UsageError(f"--tap {packing.tap!r} is not stored; there are {', '.join(arrays)}")
    values = arrays[packing.tap]
    if values.ndim == 3:
        values = values.reshape(-1, values.shape[-1])
    if values.ndim != 2:
        raise UsageError(
            f"rows of shape {list(values.shape[1:])}: layouts hold [N, D] or [N, T', D]; extract "
            "with --keep clip or --keep time and without --keep-views"
        )
    dtype = packing.dtype or layout.dtype
    with np.errstate(over="ignore"):
        stored = values if dtype is None else values.astype(dtype)
    if not np.isfinite(stored).all():
        raise StoreError(f"{features.provenance['id']}: a value does not fit into {dtype}")
    return stored


def _survey(source: Finished, packing: Packing) -> tuple[list[str], dict[str, str]]:
    """Ids that can be packed, and why the others cannot; nothing is kept in memory."""
    missing = dict.fromkeys(source.failed, "failed, see failures.jsonl")
    good: list[str] = []
    for identity in source.ids:
        try:
            source.load(identity)
        except StoreError as error:
            missing[identity] = str(error)
        else:
            good.append(identity)
    return good, missing


def _files(target: Path, layout: ExportLayout, videos: containers.Videos) -> None:
    assert layout.write is not None
    target.mkdir(parents=True)
    for identity in videos.ids:
        values = videos.rows(identity)
        path = target / f"{videos.name(identity)}{layout.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            layout.write(file, values)
            file.flush()
            os.fsync(file.fileno())


def _check_dest(dest: Path, source: Finished, packing: Packing) -> None:
    """Only what `pack` made may be replaced, and never the source."""
    features = source.path.resolve()
    if dest.resolve() in (features, *features.parents) or features in dest.resolve().parents:
        raise UsageError(f"{dest} is part of the features' own folder; choose another -o")
    if not dest.exists():
        return
    if not packing.overwrite:
        raise UsageError(f"{dest} exists; choose another -o, or --overwrite")
    packed = dest.is_dir() and "packed" in (read_record(dest / RECIPE) or {})
    if dest.is_dir() and any(dest.iterdir()) and not packed:
        raise UsageError(f"{dest} is a folder that pack did not make; choose another -o")


@contextmanager
def _appears(dest: Path) -> Iterator[Path]:
    """A path to write to, renamed to `dest` at the end, removed on failure."""
    temporary = dest.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-pack"
    old = temporary.with_name(temporary.name + "-old")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if dest.exists():
            os.rename(dest, old)
        os.rename(temporary, dest)
        fsync_folder(dest.parent)
    except OSError as error:
        raise StoreError(f"{dest}: cannot write: {error.strerror or error}") from error
    finally:
        for path in (temporary, old):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
