"""The videos of an output folder, by opaque keys; the folder may grow while it is served.

A key is a hash of the id. It is looked up among the ids that are there, never made into a path.
Of every video a few facts are in memory, whatever its length; its rows are read when somebody
looks at it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Literal

from tubelet.errors import StoreError, TubeletError, UsageError
from tubelet.rows.verify import check_record, is_centred
from tubelet.store.failures import Failures
from tubelet.store.folder import read_record
from tubelet.store.ids import check_id
from tubelet.store.listing import Finished, read_folder
from tubelet.types import Features

State = Literal["done", "warned", "failed", "unreadable"]

KEEP_FEATURES = 16
"""Videos whose rows stay in memory."""
QUIET_S = 1.0
"""A folder is not looked through more often, nor for more than a tenth of the time."""
PATIENCE_S = 2.0
"""How long a question waits for the first look through a folder; then it gets what is known."""


class Missing(TubeletError):
    """A key that nothing has."""


@dataclass(frozen=True)
class CatalogEntry:
    """One video. state: done; warned: done, with warnings; failed: a line of failures.jsonl;
    unreadable: a sidecar or failure that is not what this folder's run wrote, `problem` says why.
    uploaded: of this session."""

    key: str
    id: str
    name: str
    state: State
    rows: int = 0
    duration_s: float | None = None
    warnings: int = 0
    problem: str | None = None
    uploaded: bool = False
    mark: tuple[int, ...] = ()


def key_of(identity: str, space: str) -> str:
    text = f"{space}\0{identity}".encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=10).hexdigest()


class Catalog:
    """What is in one output folder. Thread-safe.

    names: id -> the name to show (uploads have their own). space: keeps keys of two folders apart.
    """

    def __init__(
        self, path: Path, *, space: str = "", names: Callable[[str], str] | None = None
    ) -> None:
        self.path = path
        self._space, self._names = space, names or (lambda identity: identity)
        self._entries: dict[str, CatalogEntry] = {}
        self._features: OrderedDict[tuple[str, tuple[int, ...]], Features] = OrderedDict()
        self._lock = Lock()
        self._thread: Thread | None = None
        self._looked = Event()
        self._next = 0.0
        self.version = 0
        self.total = 0
        self.folder: Finished | None = None
        self.problem: str | None = None

    @property
    def indexing(self) -> bool:
        return not self._looked.is_set()

    def entries(self) -> list[CatalogEntry]:
        """Every video that is known now; a look through the folder begins where one is due."""
        self.refresh()
        with self._lock:
            return list(self._entries.values())

    def find(self, key: str) -> CatalogEntry:
        """Missing for a key that no video has."""
        for look in (False, True):
            if look:
                self.refresh()
            with self._lock:
                if key in self._entries:
                    return self._entries[key]
        raise Missing("no such video; it may have been removed")

    def by_id(self, identity: str) -> CatalogEntry | None:
        """The video of an id, None where it is not known (any more)."""
        with self._lock:
            return self._entries.get(key_of(identity, self._space))

    def refresh(self, *, now: bool = False) -> None:
        """Look again, in the background, unless that was done a moment ago. now: in any case."""
        with self._lock:
            busy = self._thread is not None and self._thread.is_alive()
            if not busy and (now or time.monotonic() >= self._next):
                self._thread = Thread(target=self._look, name="tubelet-catalog", daemon=True)
                self._thread.start()
            thread = self._thread
        if now and thread is not None:
            thread.join(PATIENCE_S)
        self._looked.wait(PATIENCE_S)

    def record(self, entry: CatalogEntry) -> dict[str, Any]:
        """The sidecar of a video. StoreError where it is not what it should be."""
        check_id(entry.id)
        return self._sidecar(Path(self.path, f"{entry.id}.json"), entry.id)

    def failure(self, entry: CatalogEntry) -> dict[str, Any] | None:
        return Failures(self.path).read().get(entry.id)

    def features(self, entry: CatalogEntry) -> Features:
        """As `read`, of the last videos from memory."""
        known = (entry.key, entry.mark)
        with self._lock:
            if known in self._features:
                self._features.move_to_end(known)
                return self._features[known]
        found = self.read(entry)
        with self._lock:
            self._features[known] = found
            while len(self._features) > KEEP_FEATURES:
                self._features.popitem(last=False)
        return found

    def read(self, entry: CatalogEntry) -> Features:
        """The rows of a video, verified. StoreError where they cannot be read."""
        record = self.record(entry)
        for name in record["files"]:
            if not self._is_inside(self.path / str(name)):
                raise StoreError(f"{entry.id}: {name!r} lies outside of the folder")
        assert self.folder is not None
        features = self.folder.load(entry.id)
        check_record(entry.id, features, centred=is_centred(self.folder))
        return features

    def _look(self) -> None:
        began = time.monotonic()
        try:
            folder = read_folder(self.path)
            self.folder, self.problem = folder, None
            self._update(folder)
        except (UsageError, OSError) as error:
            self.problem = str(error)
        finally:
            took = time.monotonic() - began
            self._next = time.monotonic() + max(QUIET_S, 10 * took)
            self._looked.set()

    def _update(self, folder: Finished) -> None:
        """Read the sidecars that are new or have changed, and forget those that are gone."""
        self.total = len(folder.ids) + len(folder.failed)
        with self._lock:
            before = dict(self._entries)
        seen: set[str] = set()
        for entry in self._found(folder, before):
            seen.add(entry.key)
            if before.get(entry.key) != entry:
                with self._lock:
                    self._entries[entry.key] = entry
                    self.version += 1
        with self._lock:
            for key in [key for key in self._entries if key not in seen]:
                del self._entries[key]
                self.version += 1

    def _found(
        self, folder: Finished, before: Mapping[str, CatalogEntry]
    ) -> Iterator[CatalogEntry]:
        for identity in folder.ids:
            key = key_of(identity, self._space)
            try:
                stat = os.lstat(folder.sidecar(identity))
            except OSError:
                continue
            mark = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            known = before.get(key)
            if known is not None and known.mark == mark:
                yield known
            else:
                yield self._read(folder, identity, key, mark)
        for identity in folder.failed:
            key = key_of(identity, self._space)
            yield self._entry(identity, key, state="failed")

    def _read(
        self, folder: Finished, identity: str, key: str, mark: tuple[int, ...]
    ) -> CatalogEntry:
        try:
            check_id(identity)
            record = self._sidecar(folder.sidecar(identity), identity)
            if record.get("recipe") != folder.recipe_hash:
                raise StoreError("made by another recipe; run the same extract again to renew it")
            duration = record.get("duration_s")
            return self._entry(
                identity,
                key,
                state="warned" if record.get("warnings") else "done",
                rows=int(record["rows"]),
                duration_s=None if duration is None else float(duration),
                warnings=len(record.get("warnings") or ()),
                mark=mark,
            )
        except (StoreError, UsageError, KeyError, TypeError, ValueError) as error:
            return self._entry(identity, key, state="unreadable", problem=str(error), mark=mark)

    def _entry(self, identity: str, key: str, *, state: State, **facts: Any) -> CatalogEntry:
        name = self._names(identity)
        return CatalogEntry(key, identity, name, state, uploaded=bool(self._space), **facts)

    def _sidecar(self, path: Path, identity: str) -> dict[str, Any]:
        if not self._is_inside(path):
            raise StoreError(f"{path.name} is a link that leads out of the folder")
        record = read_record(path)
        if record is None or not isinstance(record.get("files"), dict):
            raise StoreError(f"{path.name} is not readable; extract it again")
        if record.get("id") != identity:
            raise StoreError(f"{path.name} says that it is {record.get('id')!r}")
        try:
            json.dumps(record, allow_nan=False)
        except ValueError as error:
            raise StoreError(f"{path.name} holds a number that is none") from error
        return record

    def _is_inside(self, path: Path) -> bool:
        home = os.path.realpath(self.path)
        return os.path.realpath(path).startswith(home.rstrip(os.sep) + os.sep)
