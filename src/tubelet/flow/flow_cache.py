"""Flows kept on disk, so that several models and runs compute each pair once.

    FOLDER/<key>/key.json         what the key stands for: the video, the method, the resolution
    FOLDER/<key>/00000064.npz     pairs [M, 2]: frame indices (a, b), 64 <= a < 128
                                  flow [M, h, w, 2]

The key is a hash of the video's content and of everything that decides the numbers, so a file is
never out of date. Files are written beside their place and renamed; several processes may share a
folder: what both compute is equal, and a file that one overwrites is only computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tubelet.config import stable_hash
from tubelet.errors import StoreError
from tubelet.flow.types import Packed

CHUNK = 64
"""First frames that one file stands for."""
LOADED = 3
"""Files held in memory for reading; windows and threads are a few pairs apart."""


class VideoCache:
    """The flows of one video, made in one way. `facts`: what decides the numbers, as plain data.

    Threads may share it. Raises StoreError where the folder cannot be written or a file is
    damaged.
    """

    def __init__(self, folder: Path, *, facts: Mapping[str, Any]) -> None:
        self.folder = folder / stable_hash(facts)
        self._lock = threading.RLock()
        self._fresh: dict[int, dict[tuple[int, int], Packed]] = {}
        self._loaded: OrderedDict[int, dict[tuple[int, int], int]] = OrderedDict()
        self._fields: OrderedDict[int, Any] = OrderedDict()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(facts, indent=1, sort_keys=True).encode()
            _replace(self.folder / "key.json", lambda file: file.write(text))
        except OSError as error:
            raise StoreError(f"{folder}: the flow cache cannot be written: {error}") from error

    def has(self, a: int, b: int) -> bool:
        """Whether the pair is kept on disk."""
        with self._lock:
            return (a, b) in self._index(a // CHUNK)

    def get(self, a: int, b: int) -> Packed:
        """The packed flow of a pair that is kept."""
        chunk = a // CHUNK
        with self._lock:
            row = self._index(chunk)[a, b]
            if chunk not in self._fields:
                self._fields[chunk] = _read(self._file(chunk), "flow")
                while len(self._fields) > LOADED:
                    self._fields.popitem(last=False)
            return self._fields[chunk][row]

    def put(self, a: int, b: int, field: Packed) -> None:
        """Keep a pair. Files are written when later pairs come in, or by `close`."""
        with self._lock:
            self._fresh.setdefault(a // CHUNK, {})[a, b] = field
            late = [chunk for chunk in self._fresh if chunk < a // CHUNK - 1]
            for chunk in late:
                self._flush(chunk)

    def close(self) -> None:
        """Write what was not written yet."""
        with self._lock:
            for chunk in list(self._fresh):
                self._flush(chunk)

    def _file(self, chunk: int) -> Path:
        return self.folder / f"{chunk * CHUNK:08d}.npz"

    def _index(self, chunk: int) -> dict[tuple[int, int], int]:
        """Row of every pair that the file of a chunk holds."""
        if chunk not in self._loaded:
            path = self._file(chunk)
            pairs = _read(path, "pairs").tolist() if path.exists() else []
            self._loaded[chunk] = {(a, b): row for row, (a, b) in enumerate(pairs)}
            while len(self._loaded) > 4 * LOADED:
                self._loaded.popitem(last=False)
        return self._loaded[chunk]

    def _flush(self, chunk: int) -> None:
        """Write a chunk's new pairs together with those its file has already."""
        fresh = self._fresh.pop(chunk)
        path = self._file(chunk)
        merged: dict[tuple[int, int], Packed] = {}
        if path.exists():
            stored = _read(path, "flow")
            for row, (a, b) in enumerate(_read(path, "pairs").tolist()):
                merged[a, b] = stored[row]
        merged.update(fresh)
        pairs = np.array(sorted(merged), np.int64)
        flow = np.stack([merged[a, b] for a, b in sorted(merged)])
        try:
            _replace(path, lambda file: np.savez_compressed(file, pairs=pairs, flow=flow))
        except OSError as error:
            raise StoreError(f"{path}: the flow cache cannot be written: {error}") from error
        self._loaded.pop(chunk, None)
        self._fields.pop(chunk, None)


def _read(path: Path, name: str) -> Any:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays[name]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(
            f"{path}: a damaged file of the flow cache ({error}); delete it"
        ) from error


def _replace(path: Path, write: Any) -> None:
    """Write beside the path and rename."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def content_of(path: str) -> str:
    """What names a video's content: sha256 of its bytes, of all files of a folder, or the text."""
    digest = hashlib.sha256()
    if os.path.isdir(path):
        for entry in sorted(os.scandir(path), key=lambda e: e.name):
            if entry.is_file():
                digest.update(entry.name.encode("utf-8", "surrogateescape") + b"\0")
                digest.update(content_of(entry.path).encode())
    elif os.path.isfile(path):
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    else:
        digest.update(path.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
