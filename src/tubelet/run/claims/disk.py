"""Who works on what: claim files that let several runs share one OUT.

    OUT/.tubelet/claims/<hash of the id>.json     id, host, pid and start time of a process
    OUT/.tubelet/runs/<process>.json              the same for a whole run, with its size

A claim is held while its process lives. A process of this machine that is dead loses its claims at
once; of one elsewhere nobody can tell, so it loses them after 120 s without a heartbeat (the time
of the claim file, renewed every 20 s, against the clock of the same file system).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tubelet.errors import StoreError
from tubelet.machine.atomic import STALE_S, TEMPORARY
from tubelet.machine.locks import Owner, is_alive, locked, this_process
from tubelet.machine.timing import Works
from tubelet.store.folder import json_bytes, read_record

HEARTBEAT_S = 20.0
HIDDEN = ".tubelet"


class Ticker:
    """Calls `beat` every HEARTBEAT_S, in a thread."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat, self._stopped = beat, threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(HEARTBEAT_S):
            self._beat()


class Claims:
    """The claims of this process on videos of one OUT. Use as a context: leaving lets all go."""

    def __init__(
        self, out: Path, *, total: int, shard: str | None = None, works: Works | None = None,
        recipes: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """recipes: folder below OUT -> hash of the recipe that this run writes there."""
        self.works = works or Works()
        self._folder = out / HIDDEN / "claims"
        self._lock = out / HIDDEN / "lock"
        me = this_process()
        name = f"{me.machine}-{me.pid}-{me.started}-{secrets.token_hex(4)}.json"
        self._run = out / HIDDEN / "runs" / name
        self.me = {**asdict(me), "since": round(time.time(), 3)}
        self._facts: dict[str, Any] = {"inputs": total, "shard": shard}
        if recipes:
            self._facts["recipes"] = dict(recipes)
        self._held: set[Path] = set()
        self._ticker = Ticker(self.beat)

    def __enter__(self) -> Claims:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._run.parent.mkdir(parents=True, exist_ok=True)
            for path, _ in stale_files(self._run.parent):
                path.unlink(missing_ok=True)
            self._tell()
        except OSError as error:
            raise _unwritable(self._run, error) from error
        self._ticker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ticker.stop()
        for path in [*self._held, self._run]:
            if owner_of(read_record(path)) == this_process():
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        self._held.clear()

    def take(self, identity: str) -> bool:
        """Whether this process may work on a video now; False when another one does.

        StoreError when OUT cannot be written.
        """
        path = self._path(identity)
        try:
            with locked(self._lock):
                if path.exists():
                    if not is_stale(path):
                        return False
                    path.unlink(missing_ok=True)
                self._held.add(path)  # before there is a file: Ctrl-C in between leaves none
                if not _create(path, json_bytes({"id": identity, **self.me})):
                    self._held.discard(path)
                    return False
        except OSError as error:
            raise _unwritable(path, error) from error
        return True

    def release(self, identity: str) -> None:
        """Let a video go, where this process had it."""
        path = self._path(identity)
        if path in self._held:
            self._held.discard(path)
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def holds(self, identity: str) -> bool:
        """Whether this process has it."""
        return self._path(identity) in self._held

    def holder(self, identity: str) -> str:
        """Who works on a video, in words; "" where nobody does any more."""
        owner = owner_of(read_record(self._path(identity)))
        return f"process {owner.pid} on {owner.host}" if owner is not None else ""

    def expect(self, total: int) -> None:
        """So many inputs are this run's."""
        self._facts["inputs"] = total
        with suppress(OSError):
            self._tell()

    def others(self) -> list[dict[str, Any]]:
        """What the other living runs on OUT say of themselves."""
        return living(self._run.parent, but=self._run)

    def facts(self) -> dict[str, Any]:
        """Who runs here, and how it gets on."""
        work = self.works.now()
        return {**self.me, **self._facts, **({"work": work.plain()} if work is not None else {})}

    def _path(self, identity: str) -> Path:
        digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:32]
        return self._folder / f"{digest}.json"

    def _tell(self) -> None:
        temporary = self._run.with_name(f"{TEMPORARY}{_prefix()}-{secrets.token_hex(4)}-run")
        try:
            temporary.write_bytes(json_bytes(self.facts()))
            os.replace(temporary, self._run)
        finally:
            temporary.unlink(missing_ok=True)

    def beat(self) -> None:
        """This process lives, and so do its claims."""
        with suppress(OSError):
            self._tell()
        for path in list(self._held):
            with suppress(OSError):
                os.utime(path)


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: cannot write: {error.strerror or error}")


def _create(path: Path, data: bytes) -> bool:
    """A whole new file under this name, or False when somebody else was faster."""
    temporary = path.with_name(f"{TEMPORARY}{_prefix()}-{secrets.token_hex(4)}-claim")
    temporary.write_bytes(data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the lock has to be enough
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _prefix() -> str:
    me = this_process()
    return f"{me.machine}-{me.pid}-{me.started}"


def owner_of(record: dict[str, Any] | None) -> Owner | None:
    """The process that a claim names."""
    try:
        assert record is not None
        return Owner(
            str(record["host"]), str(record["machine"]), int(record["pid"]), str(record["started"])
        )
    except (AssertionError, KeyError, TypeError, ValueError):
        return None


def is_stale(path: Path) -> bool:
    """Whether the process of a claim is dead, or has been silent for too long elsewhere."""
    owner = owner_of(read_record(path))
    alive = is_alive(owner) if owner is not None else None
    if alive is not None:
        return not alive
    try:
        return _clock(path.parent) - path.stat().st_mtime > STALE_S
    except FileNotFoundError:
        return True


def _clock(folder: Path) -> float:
    """The time by the clock that stamps files in `folder`, which may be another machine's."""
    probe = folder / f"{TEMPORARY}{_prefix()}-{secrets.token_hex(4)}-clock"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def stale_files(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Claim or run files of dead processes."""
    for path in sorted(folder.glob("*.json")):
        if is_stale(path):
            yield path, read_record(path) or {}


def living(folder: Path, *, but: Path | None = None) -> list[dict[str, Any]]:
    """What the claim or run files of living processes say, with the age of their last sign.
    but: one that is left out."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.json")):
        record = read_record(path) if path != but else None
        if record is not None and not is_stale(path):
            with suppress(OSError):
                found.append({**record, "silent_s": max(0.0, time.time() - path.stat().st_mtime)})
    return found
