"""A file appears whole or not at all: temporary name in the same folder, fsync, rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tubelet.errors import StoreError

TEMPORARY = ".tubelet-tmp-"
"""Prefix of unfinished files: `.tubelet-tmp-<pid>-<random>-<name>`. Never part of an output."""


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that is renamed to `path` when the block ends, and removed when it fails.

    StoreError, naming the path and the cause, for a full disk, a read-only folder and the like.
    """
    # The tail of a long name keeps the temporary name under the 255 bytes that file systems allow.
    short = path.name.encode()[-100:].decode(errors="ignore")
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{short}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as handle:
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
