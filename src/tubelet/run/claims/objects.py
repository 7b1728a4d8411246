"""Claims on an OUT that is on an object store: those of this machine, and one object per video.

    OUT/.tubelet/claims/<hash of the id>/<n>.json     as a claim file; the largest n counts
    OUT/.tubelet/runs/<process>.json                  as a run file

A claim is an object that only one process can create, where the store has conditional writes (S3,
GCS). A stale one is not removed but overtaken: whoever creates n + 1 has the video, so two that
find it stale at once cannot both have it. A claim is stale when its process was one of this machine
and is dead, or when nobody wrote it for 120 s by the clock of the store.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tubelet.errors import StoreError
from tubelet.machine.atomic import STALE_S
from tubelet.machine.locks import is_alive, this_process
from tubelet.machine.timing import Works
from tubelet.run.claims.disk import HIDDEN, Claims, Ticker, owner_of
from tubelet.store.folder import json_bytes
from tubelet.store.remote.objects import ObjectFolder, StoredObject
from tubelet.store.remote.spool import hashed

LARGEST = 1 << 16
"""Of a claim, in bytes."""

_open: set[str] = set()
"""Tokens of the `StoreClaims` of this process: another one's was left when the store failed."""


class StoreClaims:
    """`Claims` that other machines see; those on the disk are for processes of this one."""

    def __init__(
        self, spool: Path, store: ObjectFolder, *, total: int, shard: str | None = None,
        works: Works | None = None, recipes: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._disk = Claims(spool, total=total, shard=shard, works=works, recipes=recipes)
        self._store = store
        self._objects: dict[str, bytes] = {}
        self._mine: dict[str, str] = {}
        self._writing = threading.Lock()
        self._token = secrets.token_hex(8)
        self._name = "{machine}-{pid}-{started}".format(**self._disk.me) + f"-{self._token[:8]}"
        self._run = f"{HIDDEN}/runs/{self._name}.json"
        self._ticker = Ticker(self.beat)

    @property
    def works(self) -> Works:
        return self._disk.works

    def __enter__(self) -> StoreClaims:
        self._disk.__enter__()
        try:
            self._tell()
        except BaseException:
            self._disk.__exit__()
            raise
        self._ticker.start()
        _open.add(self._token)
        return self

    def __exit__(self, *exc: object) -> None:
        self._ticker.stop()
        self._disk.__exit__(*exc)
        _open.discard(self._token)
        with suppress(StoreError):  # they go stale by themselves
            for name in list(self._objects):
                self._store.delete(name)
            self._tidy()

    def _tell(self) -> None:
        """The run file."""
        self._objects[self._run] = self._words(self._disk.facts())
        self._store.put_bytes(self._objects[self._run], self._run)

    def _tidy(self) -> None:
        """Remove what killed processes of this machine left."""
        for folder in ("claims", "runs"):
            there = self._store.entries(f"{HIDDEN}/{folder}")
            records = self._store.records(n for n, e in there.items() if e.size <= LARGEST)
            for name, record in records.items():
                owner = owner_of(record)
                if owner is not None and is_alive(owner) is False:
                    self._store.delete(name)

    def take(self, identity: str) -> bool:
        if identity in self._mine:
            return True
        if not self._disk.take(identity):
            return False
        try:
            name = self._create(identity)
        except BaseException:
            self._disk.release(identity)
            raise
        if name is None:
            self._disk.release(identity)
            return False
        self._mine[identity] = name
        return True

    def release(self, identity: str) -> None:
        name = self._mine.pop(identity, None)
        if name is not None:
            with self._writing, suppress(StoreError):
                self._objects.pop(name, None)
                self._store.delete(name)
        self._disk.release(identity)

    def holds(self, identity: str) -> bool:
        """Whether this process has it."""
        return identity in self._mine

    def expect(self, total: int) -> None:
        """So many inputs are this run's."""
        self._disk.expect(total)
        with self._writing, suppress(StoreError):
            self._tell()

    def others(self) -> list[dict[str, Any]]:
        """What the other living runs on OUT say of themselves."""
        there = self._store.entries(f"{HIDDEN}/runs")
        names = [n for n, e in there.items() if n != self._run and e.size <= LARGEST]
        records = self._store.records(names)
        return [r for n, r in records.items() if not self._is_stale(n, there[n])]

    def holder(self, identity: str) -> str:
        name = max(self._claims(identity), key=_number, default="")
        record = (self._store.record(name) if name else None) or {}
        return f"process {record.get('pid', '?')} on {record.get('host', '?')}"

    def beat(self) -> None:
        """This process lives, and so do its claims."""
        self._objects[self._run] = self._words(self._disk.facts())
        for name, data in list(self._objects.items()):
            with self._writing, suppress(StoreError):
                if name in self._objects:
                    self._store.put_bytes(data, name)

    def _create(self, identity: str) -> str | None:
        """The claim of this process, None where another one has it."""
        there = self._claims(identity)
        last = max(there, key=_number, default="")
        if last and not self._is_stale(last, there[last]):
            return None
        name = f"{_folder(identity)}/{_number(last) + 1 if last else 0}.json"
        data = self._words({"id": identity})
        if not self._store.create(data, name):
            return None
        self._objects[name] = data
        for old in there:
            self._store.delete(old)
        return name

    def _claims(self, identity: str) -> dict[str, StoredObject]:
        return {n: e for n, e in self._store.entries(_folder(identity)).items() if _number(n) >= 0}

    def _is_stale(self, name: str, entry: StoredObject) -> bool:
        record = self._store.record(name) if entry.size <= LARGEST else None
        owner = owner_of(record)
        if record and owner == this_process():
            return record.get("token") not in _open
        alive = is_alive(owner) if owner is not None else None
        return not alive if alive is not None else self._clock() - entry.modified > STALE_S

    def _clock(self) -> float:
        """The time by the clock of the store."""
        probe = f"{HIDDEN}/clock/{self._name}-{secrets.token_hex(4)}"
        self._store.put_bytes(b"?", probe)
        try:
            return self._store.entry(probe).modified
        finally:
            self._store.delete(probe)

    def _words(self, facts: dict[str, Any]) -> bytes:
        return json_bytes({**self._disk.me, "token": self._token, **facts})


def _folder(identity: str) -> str:
    return f"{HIDDEN}/claims/{hashed(identity)}"


def _number(name: str) -> int:
    """Which claim on its video an object is; -1 for what is none."""
    text = name.rpartition("/")[2].removesuffix(".json")
    return int(text) if text.isdecimal() and len(text) < 10 else -1
