"""Which process: a name that tells it from every other one, and whether it still lives."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

__all__ = ["Owner", "Timeout", "is_alive", "locked", "machine", "started", "this_process"]

UNKNOWN = "0"
QUERY_LIMITED, STILL_ACTIVE, ACCESS_DENIED = 0x1000, 259, 5
"""Of Windows: the right to ask when a process began, the exit code of one that runs, an error."""

POLL_S = 0.01
"""How often a lock that somebody else holds is asked for again."""


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
    """When a process of this machine started (clock ticks since boot; on Windows 100 ns since
    1601), "0" where unknown."""
    if sys.platform == "win32":
        return windows_start(pid) or UNKNOWN
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
    if sys.platform == "win32":  # os.kill would end the process that is asked about
        now = windows_start(owner.pid)
        return now is not None and (UNKNOWN in (now, owner.started) or now == owner.started)
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


def windows_start(pid: int) -> str | None:
    """When a process of Windows started, "0" for one that may not be asked, None for none."""
    import ctypes

    kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # pyright: ignore[reportAttributeAccessIssue]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(kernel.OpenProcess(QUERY_LIMITED, False, pid))
    if not handle:
        denied = ctypes.get_last_error() == ACCESS_DENIED  # pyright: ignore[reportAttributeAccessIssue]
        return UNKNOWN if denied else None
    try:
        code, times = ctypes.c_uint32(), [ctypes.c_uint64() for _ in range(4)]
        known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        if known and code.value != STILL_ACTIVE:  # it ended, and somebody still has a handle
            return None
        if not kernel.GetProcessTimes(handle, *map(ctypes.byref, times)):
            return UNKNOWN
        return str(times[0].value)
    finally:
        kernel.CloseHandle(handle)


def _is_zombie(pid: int) -> bool:
    """Killed, but its parent has not asked yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "Z"


@contextmanager
def locked(path: Path, *, timeout_s: float = -1) -> Iterator[None]:
    """One process (and thread) at a time; the others wait, and a dead one lets go. On a file system
    without locks (some network ones) nobody waits. OSError where the file cannot be made,
    Timeout after timeout_s seconds (below 0: never)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=timeout_s, poll_interval=POLL_S)
    except NotImplementedError:  # whoever renames last wins, with a whole file
        yield
        return
    try:
        yield
    finally:
        lock.release()
