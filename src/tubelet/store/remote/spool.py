"""OUT on an object store: a folder on this disk, from which finished videos are sent.

    <cache>/out/<hash of the URL>/          an OUT as any other, while its videos are made
    s3://bucket/features/                   what is finished
    s3://bucket/features/.tubelet/failures/<hash of the id>.json      one object per failed input

A video is made on the disk and then sent: the JSON that the store may have of it is removed, the
arrays are put, the new JSON is put last. So a kill at any moment leaves either a finished video or
one without a JSON, which is done again; or, when it was finished here and not yet sent, is sent by
the next run on this machine.

Several machines write failures without waiting for each other because each input has an object of
its own; failures.jsonl is put together from them when a run ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy import float64
from numpy.typing import NDArray

from tubelet.errors import StoreError, UsageError
from tubelet.machine.cache import cache_folder
from tubelet.store.failures import NAME, Failure
from tubelet.store.folder import RECIPE, Folder, json_bytes, open_folder, read_record
from tubelet.store.formats.rows import Rows
from tubelet.store.listing import ids_below
from tubelet.store.named_files import is_inside
from tubelet.store.remote.objects import ObjectFolder

FAILURES = ".tubelet/failures"


def spool_of(store: ObjectFolder) -> Path:
    """Where this machine makes what belongs to a folder of a store."""
    return cache_folder() / "out" / hashed(store.url)


def hashed(name: str) -> str:
    """32 hex digits of an id or a URL."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]


@dataclass(frozen=True)
class StoreFolder:
    """A folder of a store: its videos are made in `spool`, and sent when they are finished."""

    spool: Folder
    store: ObjectFolder

    @property
    def path(self) -> Path:
        """Where videos are made."""
        return self.spool.path

    @property
    def recipe_hash(self) -> str:
        return self.spool.recipe_hash

    def is_done(self, identity: str, expected: Mapping[str, Any] | None = None) -> bool:
        """Whether the store has the JSON, as expected, and a file of every name in it. Their bytes
        are not fetched: they were there before the JSON was."""
        files = self.spool.promised(self.store.record(f"{identity}.json"), expected)
        if not files or not all(map(is_inside, files)):
            return False
        there = _names(self.store)
        if not all(name in there or self.store.has(name) for name in files):
            return False
        for name in files:  # what a killed run of this machine left, and another one finished
            if not self.spool.sidecar(identity).exists():
                (self.path / name).unlink(missing_ok=True)
        return True

    def put(
        self,
        identity: str,
        arrays: Mapping[str, Rows],
        times: Mapping[str, NDArray[float64]],
        provenance: Mapping[str, Any],
    ) -> None:
        self.spool.put(identity, arrays, times, provenance)
        try:
            self.send(identity)
        except StoreError as error:
            raise StoreError(
                f"{error}; the features are kept in {self.path} and sent by the next run on this "
                "machine"
            ) from error

    def send(self, identity: str) -> None:
        """A video that is finished on this disk, which then has it no more."""
        sidecar = self.spool.sidecar(identity)
        files = (read_record(sidecar) or {}).get("files") or {}
        self.store.delete(f"{identity}.json")
        for name in files:
            self.store.put(self.path / name, name)
        self.send_sheets(identity)
        self.store.put(sidecar, f"{identity}.json")
        for path in (sidecar, *(self.path / name for name in files)):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def send_sheets(self, identity: str) -> None:
        """Its contact sheets (--debug-frames)."""
        for sheet in sorted((self.path / "debug" / identity).glob("*.png")):
            self.store.put(sheet, sheet.relative_to(self.path).as_posix())
            sheet.unlink(missing_ok=True)

    def unsent(self) -> Sequence[str]:
        """What an earlier run finished here and may not have sent."""
        return list(ids_below(self.path))

    def resume(self, identity: str) -> None:
        """Send what an earlier run finished here and did not send. Only for who may work on it."""
        if self.spool.is_done(identity):
            self.send(identity)
        else:
            self.spool.sidecar(identity).unlink(missing_ok=True)


@lru_cache(maxsize=16)
def _names(store: ObjectFolder) -> frozenset[str]:
    """What the store had when this process first asked."""
    return frozenset(store.entries())


def open_spooled(path: Path, store: ObjectFolder, **facts: Any) -> StoreFolder:
    """As `store.folder.open_folder`, on a store; `path` is the spool. UsageError when it cannot be
    written or read."""
    _names.cache_clear()
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder = _open(path, store, facts)
        if folder is None:  # another run was faster, perhaps one of another recipe
            folder = _open(path, store, facts)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot write there, where {store.url} is prepared: "
            f"{error.strerror or error}; name another place with TUBELET_CACHE"
        ) from error
    except StoreError as error:
        raise UsageError(str(error)) from error
    if folder is None:
        raise UsageError(f"{store.url}/{RECIPE} appears and disappears; is something removing it?")
    return StoreFolder(folder, store)


def _open(path: Path, store: ObjectFolder, facts: Mapping[str, Any]) -> Folder | None:
    """The spool with the recipe that the store has, or gets. None when that came in between."""
    before = store.read(RECIPE)
    if before is None:
        (path / RECIPE).unlink(missing_ok=True)
    else:
        (path / RECIPE).write_bytes(before)
    folder = open_folder(path, **facts, shown=store.url)
    after = (path / RECIPE).read_bytes()
    if before is None:
        return folder if store.create(after, RECIPE) else None
    if after != before:
        store.put_bytes(after, RECIPE)
    return folder


class StoreFailures:
    """`Failures` of a folder on a store: an object per input, so that nobody waits for another."""

    def __init__(self, store: ObjectFolder) -> None:
        self._store = store

    def line(self, identity: str) -> dict[str, Any] | None:
        line = self._store.record(self._name(identity))
        return line if line and line.get("id") == identity else None

    def read(self) -> dict[str, dict[str, Any]]:
        """id -> line, sorted."""
        names = [n for n in self._store.entries(FAILURES) if n.endswith(".json")]
        lines = self._store.records(names).values()
        return {r["id"]: r for r in sorted(lines, key=lambda r: str(r.get("id"))) if _is_ours(r)}

    def add(self, failure: Failure) -> None:
        before = (self.line(failure.id) or {}).get("attempts", 0)
        line = {**asdict(failure), "attempts": before + 1}
        self._store.put_bytes(json_bytes(line), self._name(failure.id))

    def forget(self, identity: str) -> None:
        self._store.delete(self._name(identity))

    def finish(self) -> None:
        """failures.jsonl, made of all lines that are there now."""
        now, before = self.text(), self._store.read(NAME) or b""
        if now and now != before:
            self._store.put_bytes(now, NAME)
        elif before and not now:
            self._store.delete(NAME)

    def text(self) -> bytes:
        """What failures.jsonl should say."""
        return b"".join(json_bytes(line) + b"\n" for line in self.read().values())

    def _name(self, identity: str) -> str:
        return f"{FAILURES}/{hashed(identity)}.json"


def _is_ours(line: Mapping[str, Any]) -> bool:
    return isinstance(line.get("id"), str)
