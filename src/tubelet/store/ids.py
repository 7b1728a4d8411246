"""Which ids may become file names below OUT."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from tubelet.errors import UsageError

RESERVED = ("taps", "logits", "flow", "debug")
"""Folders of OUT that are no part of an id."""
ROOT_NAMES = ("tubelet", "failures")
HIDDEN = ".tubelet"
SUFFIXES = (".json", ".npy", ".npz", ".hdf5", ".parquet")
NAME_BYTES = 255 - max(map(len, SUFFIXES))
"""What file systems allow for one name, less the longest suffix."""


def check_id(identity: str) -> None:
    """UsageError for ids that would leave OUT or collide with the folder's own names."""
    parts = identity.replace("\\", "/").split("/")
    drive = len(parts[0]) == 2 and parts[0][1] == ":" and len(parts) > 1
    if "\0" in identity or drive or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"id {identity[:80]!r}: an id must be a relative path inside OUT, without empty "
            "parts, '.' and '..'"
        )
    if parts[0] in RESERVED or identity in ROOT_NAMES or parts[0].startswith(HIDDEN):
        raise UsageError(
            f"id {identity!r} collides with a name of the output folder "
            f"({', '.join((*RESERVED, *ROOT_NAMES))}, {HIDDEN}*); rename the video or give ids in "
            "a list"
        )
    longest = max(parts, key=_size)
    if _size(longest) > NAME_BYTES:
        raise UsageError(
            f"id {identity[:60]!r}...: a name of {_size(longest)} bytes; at most {NAME_BYTES} "
            "leave room for a suffix. Give ids in a list"
        )


def check_ids(identities: Iterable[str]) -> None:
    """check_id for each, and no id may need a folder where another one needs a file."""
    known = list(identities)
    for identity in known:
        check_id(identity)
    files = {identity + suffix: identity for identity in known for suffix in SUFFIXES}
    for identity in known:
        for folder in PurePosixPath(identity).parents:
            if str(folder) in files:
                raise UsageError(
                    f"id {identity!r} needs a folder {str(folder)!r}, which is a file of the id "
                    f"{files[str(folder)]!r}; give ids in a list"
                )


def _size(name: str) -> int:
    return len(name.encode(errors="surrogateescape"))
