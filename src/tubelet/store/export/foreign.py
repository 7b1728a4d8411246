"""Feature files of other tools, for comparisons: .npy, .npz and .pt, with or without a sidecar."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError, UsageError
from tubelet.store.folder import RECIPE, load, read_record
from tubelet.store.listing import read_folder
from tubelet.types import Features

KEYS = ("features", "feats")
"""Names of the rows in an .npz, in the order they are looked for; else it must hold one array."""


UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    AttributeError,
    TypeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""What NumPy and torch raise for files that are not what their suffix says."""


def read_rows(path: Path) -> tuple[NDArray[Any], Features | None]:
    """(rows [N, ...], what is known of them) of any feature file. StoreError where it cannot be."""
    sidecar = path if path.suffix == ".json" else path.with_name(f"{path.stem}.json")
    if sidecar.exists():
        features = load(path)
        return features.values, features
    reader = READERS.get(path.suffix)
    if reader is None:
        raise StoreError(
            f"{path}: not one of {', '.join(READERS)}, and no {sidecar.name} beside it"
        )
    try:
        rows = reader(path)
    except UNREADABLE as error:
        raise StoreError(f"{path}: not readable: {error}") from error
    if rows.ndim < 2 or rows.dtype.kind not in "fiu":
        raise StoreError(f"{path}: {rows.dtype} of shape {list(rows.shape)} are no feature rows")
    return rows, None


def feature_files(folder: Path) -> dict[str, Path]:
    """id -> file, of an output folder, or of a folder of any feature files. UsageError for none."""
    recipes = [read_record(path) for path in (folder / RECIPE, *folder.glob(f"*/{RECIPE}"))]
    # What `pack` made has a tubelet.json without a hash: its files are read like anybody's.
    if any(record is not None and "hash" in record for record in recipes):
        found = read_folder(folder)
        return {identity: found.sidecar(identity) for identity in found.ids}
    files = sorted(p for p in folder.rglob("*") if p.suffix in READERS and p.is_file())
    ids: dict[str, Path] = {}
    for file in files:
        identity = file.relative_to(folder).as_posix().removesuffix(file.suffix)
        if identity in ids:
            raise UsageError(f"{ids[identity]} and {file} have the same id; compare files instead")
        ids[identity] = file
    if not ids:
        raise UsageError(f"{folder}: no feature files ({', '.join(READERS)}) in it")
    return ids


def _npz(path: Path) -> NDArray[Any]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
        names = [key for key in KEYS if key in data] or list(data)
        if len(names) != 1 and names[0] not in KEYS:
            raise ValueError(f"it holds {', '.join(names)}; which are the rows?")
        return data[names[0]]


def _pt(path: Path) -> NDArray[Any]:
    import torch

    tensor = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"it holds a {type(tensor).__name__}, not a tensor")
    return tensor.float().numpy()


def _npy(path: Path) -> NDArray[Any]:
    with open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {".npy": _npy, ".npz": _npz, ".pt": _pt}
