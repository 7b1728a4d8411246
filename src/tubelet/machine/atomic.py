"""A file appears whole or not at all: temporary name in the same folder, fsync, rename."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tubelet.errors import StoreError
from tubelet.machine.locks import Owner, is_alive, this_process

TEMPORARY = ".tubelet-tmp-"
"""Unfinished files: `.tubelet-tmp-<machine>-<pid>-<started>-<random>-<name>`."""

STALE_S = 120.0
"""A process elsewhere that has not written for so long is taken for dead."""

_NAME = re.compile(re.escape(TEMPORARY) + r"([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}-")


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def temporary_name(name: str) -> str:
    """A name that nobody else uses, and that says whose it is."""
    me = this_process()
    return f"{TEMPORARY}{me.machine}-{me.pid}-{me.started}-{secrets.token_hex(4)}-{name}"


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that is renamed to `path` when the block ends, and removed when it fails.

    StoreError, naming the path and the cause, for a full disk, a read-only folder and the like.
    """
    # The tail of a long name keeps the temporary name under the 255 bytes that file systems allow.
    short = path.name.encode(errors="surrogateescape")[-100:].decode(errors="ignore")
    temporary = path.parent / temporary_name(short)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "x+b") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def sweep(folder: Path) -> int:
    """Remove unfinished files below `folder` whose process is dead. How many there were."""
    removed = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.startswith(TEMPORARY) and _is_leftover(Path(parent, name)):
                with suppress(OSError):
                    os.unlink(os.path.join(parent, name))
                    removed += 1
    return removed


def _is_leftover(path: Path) -> bool:
    if _NAME.match(path.name) is None:
        return False
    alive = maker_lives(path)
    if alive is not None:
        return not alive
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > STALE_S
    return False


def maker_lives(path: Path) -> bool | None:
    """Whether the process that a temporary name names is there; None where nobody can tell."""
    match = _NAME.match(path.name)
    return is_alive(Owner("", match[1], int(match[2]), match[3])) if match else None
