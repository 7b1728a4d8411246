"""All rows of an output folder as one matrix, with whose they are and when.

    OUT/.tubelet/rows/<key>.f32   [N, D] float32, rows of length one: memory-mapped when used
    OUT/.tubelet/rows/<key>.npz   ids, where their rows begin, times, lengths

The key is made of the recipe and of the name, size and time of every sidecar, so a run that adds
or renews a video gives another matrix. Any store format; nothing there is worth keeping.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError, UnknownName, UsageError, did_you_mean
from tubelet.rows.similarity import normalise
from tubelet.store.folder import json_bytes
from tubelet.store.ids import HIDDEN
from tubelet.store.listing import Finished, read_folder
from tubelet.store.named_files import hidden_folder

SCHEMA = 1
TIMES = ("start_s", "end_s", "center_s")
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What NumPy raises for a file of the cache that is not there, was cut off or is another's: it is
made again then."""


@dataclass(frozen=True)
class Collection:
    """Every row of every readable video of one output folder; videos in the order of their ids.

    ids [V]; first [V+1]: rows first[v] ... first[v+1]-1 are those of ids[v]. start_s, end_s,
    center_s [N] seconds. vectors [N, D] float32 of length one (zeros stay zero), perhaps on disk;
    norms [N]: lengths before. skipped: (id, why) of videos that could not be read. key: names
    these rows; another set of rows has another key. cached: whether they lie in `cache_folder`.
    """

    folder: Finished
    ids: tuple[str, ...]
    first: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    center_s: NDArray[np.float64]
    norms: NDArray[np.float32]
    vectors: NDArray[np.float32]
    skipped: tuple[tuple[str, str], ...]
    key: str
    cached: bool

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def recipe(self) -> dict[str, Any]:
        return self.folder.record["recipe"]

    @property
    def width(self) -> int:
        return self.vectors.shape[1]

    @property
    def cache_folder(self) -> Path:
        return _cache_folder(self.folder.path)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {identity: v for v, identity in enumerate(self.ids)}

    def span(self, identity: str) -> slice:
        """The rows of a video. UnknownName for one that is not here."""
        v = self._place.get(identity)
        if v is None:
            skipped = dict(self.skipped).get(identity)
            if skipped:
                raise StoreError(f"{identity}: {skipped}")
            raise UnknownName(
                f"no video {identity!r} in {self.folder.path}{did_you_mean(identity, self.ids)}"
            )
        return slice(int(self.first[v]), int(self.first[v + 1]))

    def video_of(self, row: int) -> str:
        """The id of the video that a row is of."""
        return self.ids[int(np.searchsorted(self.first, row, side="right")) - 1]

    def at(self, identity: str, t: float) -> int:
        """The row of a video whose centre is nearest to t seconds; the earlier one on a tie."""
        rows = self.span(identity)
        if rows.start == rows.stop:
            raise UsageError(f"{identity} has no rows; nothing is at {t:g} s")
        return rows.start + int(np.argmin(np.abs(self.center_s[rows] - t)))

    def rows_between(self, identity: str, t0: float, t1: float) -> NDArray[np.int64]:
        """Rows of a video whose centre lies in [t0, t1) seconds."""
        rows = self.span(identity)
        centre = self.center_s[rows]
        return rows.start + np.flatnonzero((centre >= t0) & (centre < t1))


def load_collection(out: str | Path, *, cache: bool = True) -> Collection:
    """The rows of OUT, from the cache or read now (every file checked against its sha256).

    cache: keep the matrix in OUT/.tubelet, where that can be written; else it is in memory.
    UsageError for what is no output folder of one model; StoreError where rows find no room.
    """
    folder = read_folder(out)
    key = _key(folder)
    place = _cache_folder(folder.path)
    with suppress(*UNREADABLE):
        return _read(folder, key, place)
    if cache:
        with suppress(OSError):
            hidden_folder(folder.path, ROWS)
            _build(folder, key, place)
            return _read(folder, key, place)
    try:
        with tempfile.TemporaryDirectory() as name:
            _build(folder, key, Path(name))
            return _read(folder, key, Path(name), in_memory=True)
    except OSError as error:  # a full disk, most often
        raise StoreError(f"the rows of {folder.path} cannot be put together: {error}") from error


ROWS = "rows"
OURS = re.compile(r"[0-9a-f]{16}\.(f32|npz|codes\.npy|index\.npz)")
"""Names of the files in the cache; nothing else is ever removed there."""


def _cache_folder(out: Path) -> Path:
    return out / HIDDEN / ROWS


def _key(folder: Finished) -> str:
    digest = hashlib.sha256(f"{SCHEMA} {folder.recipe_hash}\n".encode())
    for identity in folder.ids:
        try:
            facts = os.stat(folder.sidecar(identity))
        except OSError:
            continue
        line = f"{identity}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _videos(
    folder: Finished, skipped: list[tuple[str, str]]
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32], list[NDArray[np.float64]]]]:
    """(id, rows of length one, lengths, times) of every video that can be read."""
    width: int | None = None
    for identity in folder.ids:
        try:
            features = folder.load(identity)
            unit, norms = normalise(features.values)
            if not np.isfinite(norms).all():
                raise StoreError("NaN or infinity in its rows")
            if width not in (None, unit.shape[1]):
                raise StoreError(f"rows of {unit.shape[1]} numbers, the others have {width}")
        except StoreError as error:
            skipped.append((identity, str(error)))
            continue
        width = unit.shape[1]
        yield identity, unit, norms, [getattr(features, name) for name in TIMES]


def _build(folder: Finished, key: str, place: Path) -> None:
    """Both files of the cache, whole or not at all. Older ones go."""
    skipped: list[tuple[str, str]] = []
    ids: list[str] = []
    counts = [0]
    norms: list[NDArray[Any]] = [np.zeros(0, np.float32)]
    times: list[list[NDArray[Any]]] = [[np.zeros(0)] for _ in TIMES]
    width = 0
    temporary = Path(tempfile.mkdtemp(dir=place))
    try:
        raw = temporary / "raw"
        with open(raw, "wb") as file:
            for identity, unit, lengths, own in _videos(folder, skipped):
                ids.append(identity)
                counts.append(len(unit))
                norms.append(lengths)
                width = unit.shape[1]
                for column, values in zip(times, own, strict=True):
                    column.append(values)
                file.write(unit.tobytes())
        index = temporary / "index.npz"
        arrays: dict[str, Any] = {
            "names": np.frombuffer(json_bytes([ids, skipped]), np.uint8),
            "first": np.cumsum(counts, dtype=np.int64),
            "width": np.int64(width),
            "norms": np.concatenate(norms),
            **{name: np.concatenate(column) for name, column in zip(TIMES, times, strict=True)},
        }
        np.savez(index, **arrays)
        old = [p for p in place.iterdir() if OURS.fullmatch(p.name) and p.name[:16] != key]
        os.replace(raw, place / f"{key}.f32")
        os.replace(index, place / f"{key}.npz")  # last: its presence says that both are there
        for path in old:
            with suppress(OSError):  # a system that keeps open files from going
                path.unlink()
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read(folder: Finished, key: str, place: Path, *, in_memory: bool = False) -> Collection:
    """What `_build` wrote. One of UNREADABLE where it is not there or not whole."""
    with open(place / f"{key}.npz", "rb") as file, np.load(file, allow_pickle=False) as data:
        index = {name: data[name] for name in data.files}
    ids, skipped = json.loads(index.pop("names").tobytes())
    shape = (int(index["first"][-1]), int(index.pop("width")))
    path = place / f"{key}.f32"
    if path.stat().st_size != shape[0] * shape[1] * 4:
        raise ValueError(f"{path}: not whole")
    if in_memory or not shape[0] * shape[1]:
        vectors = np.fromfile(path, np.float32).reshape(shape)
    else:
        vectors = np.memmap(path, np.float32, "r", shape=shape)
    reasons = tuple((str(i), str(why)) for i, why in skipped)
    return Collection(
        folder, tuple(ids), vectors=vectors, skipped=reasons, key=key, cached=not in_memory, **index
    )
