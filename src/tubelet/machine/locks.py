"""Which process: a name that tells it from every other one, and whether it still lives."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

UNKNOWN = "0"

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl


@dataclass(frozen=True)
class Owner:
    """A process. `machine` names the set of processes that `pid` counts in: two containers of one
    host differ. `started` tells a process from a later one with the same number."""

    host: str
    machine: str
    pid: int
    started: str


@lru_cache(maxsize=1)
def machine() -> str:
    """8 hex digits: this host, since its last start, in this name space of process numbers."""
    facts = [socket.gethostname()]
    for path, read in (
        ("/proc/sys/kernel/random/boot_id", lambda p: Path(p).read_text().strip()),
        ("/proc/self/ns/pid", os.readlink),
    ):
        try:
            facts.append(read(path))
        except OSError:
            facts.append(UNKNOWN)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def started(pid: int) -> str:
    """When a process of this machine started (clock ticks since boot), "0" where unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return UNKNOWN
    # The name in parentheses may hold spaces; field 22 is the 20th after it.
    return text.rpartition(")")[2].split()[19]


def this_process() -> Owner:
    pid = os.getpid()
    return Owner(socket.gethostname(), machine(), pid, started(pid))


def is_alive(owner: Owner) -> bool | None:
    """Whether a process of this machine is there; None for one elsewhere: nobody can tell."""
    if owner.machine != machine():
        return None
    try:
        os.kill(owner.pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    if _is_zombie(owner.pid):
        return False
    now = started(owner.pid)
    return UNKNOWN in (now, owner.started) or now == owner.started


def _is_zombie(pid: int) -> bool:
    """Killed, but its parent has not asked yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "Z"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the others wait, and a dead one lets go. Where the system has no
    such locks (Windows, some network file systems) nobody waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if fcntl is not None:
            # A file system without locks: whoever renames last wins, with a whole file.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
