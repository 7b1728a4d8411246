"""The one door to a file that a sidecar names, and to the folder of what we keep beside rows.

A sidecar may come from a stranger. What it names is opened only inside its own folder: never an
absolute path, never through `..` or a link that leads out, and never a name that means something
else in an output folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tubelet.errors import StoreError
from tubelet.store.ids import HIDDEN, SUFFIXES


def is_inside(name: str) -> bool:
    """Whether a relative name with slashes stays in its folder, on every system."""
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts) or "\\" in name or "\0" in name or ":" in parts[0])


def named_file(root: Path, name: Any, *, by: Path | str) -> Path:
    """root / name, for a name that `by` states. StoreError for one that leaves `root`."""
    if not isinstance(name, str) or not is_inside(name):
        raise StoreError(f"{by}: names a file outside of its folder: {str(name)[:80]!r}")
    path = root / name
    home = os.path.realpath(root)
    if os.path.commonpath([home, os.path.realpath(path)]) != home:
        raise StoreError(f"{by}: {name[:80]!r} is a link that leads out of its folder")
    return path


def named_files(record: Mapping[str, Any], identity: str, *, by: Path | str) -> dict[str, str]:
    """The files of a video, with their sha256, as its sidecar lists them: its array, and those of
    its taps and logits. StoreError for another name, so that no video has the files of another.
    """
    files = record.get("files")
    if not isinstance(files, dict):
        raise StoreError(f"{by}: lists no files; extract it again")
    for name, digest in files.items():
        if not isinstance(name, str) or not isinstance(digest, str) or not is_inside(name):
            raise StoreError(f"{by}: names a file outside of its folder: {str(name)[:80]!r}")
        path = PurePosixPath(name)
        first, *rest = path.parts
        skip = {"taps": 2, "logits": 1}.get(first, 0) if rest else 0
        own = "/".join(path.parts[skip:]).removesuffix(path.suffix)
        if own != identity or path.suffix not in SUFFIXES or path.suffix == ".json":
            raise StoreError(f"{by}: names a file that is not of {identity!r}: {name[:80]!r}")
    return files


def hidden_folder(out: Path, name: str) -> Path:
    """OUT/.tubelet/<name>, made where it is not there. StoreError where it is a link: what is kept
    there is replaced and removed, and must be ours."""
    place = out
    for part in (HIDDEN, name):
        place = place / part
        if place.is_symlink():
            raise StoreError(f"{place}: a link; remove it, nothing is kept behind links")
        place.mkdir(exist_ok=True)
    return place
