"""From the sidecar of a video back to its source, where that is still what it was."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from tubelet.errors import VideoError
from tubelet.inputs.local import Openers, fingerprint
from tubelet.inputs.types import SYNTHETIC, TAR_SUFFIXES, Input, is_url


def find_source(record: Mapping[str, Any], roots: Sequence[str | Path] = ()) -> Input:
    """The input that a sidecar was made from, with its range.

    roots: folders to look in where the recorded path leads nowhere: for the whole relative path,
    then for the file's name, then for the id with the file's suffix. Nothing is downloaded.
    VideoError for a source that is not at hand, and for one that has changed.
    """
    identity, source = str(record.get("id")), str(record.get("source"))
    start_s, end_s = record.get("range_s") or (None, None)
    if source.startswith(SYNTHETIC):
        return Input(identity, source, start_s, end_s)
    if is_url(source):
        raise VideoError(f"its source is a URL, which is not fetched again: {source}")
    for path, member in _places(identity, source, roots):
        if not os.path.exists(path):
            continue
        item = Input(identity, path, start_s, end_s, member)
        if os.path.isdir(path):
            rate = Fraction(record.get("fps_exact") or record["fps"])
            item = replace(item, fps=rate, pattern=record.get("frames_pattern"))
        if record.get("fingerprint") is not None:
            with closing(Openers()) as openers:
                mark = fingerprint(item, openers)
            if mark != record["fingerprint"]:
                raise VideoError(f"its source has changed since: {path}")
        return item
    raise VideoError(f"its source is not here: {source}")


def _places(
    identity: str, source: str, roots: Sequence[str | Path]
) -> list[tuple[str, str | None]]:
    """(path, member of a tar) of every place to look, in order."""
    path, member = source, None
    archive, bang, rest = source.partition("!")
    if bang and archive.lower().endswith(TAR_SUFFIXES) and not os.path.exists(source):
        path, member = archive, rest
    found = [path]
    name = os.path.basename(path.rstrip("/"))
    for root in roots:
        # An absolute path or `..` would leave the folder that was named.
        if not os.path.isabs(path) and ".." not in Path(path).parts:
            found.append(os.path.join(root, path))
        found.append(os.path.join(root, name))
        if member is None:
            found.append(os.path.join(root, identity + os.path.splitext(name)[1]))
    return [(place, member) for place in found]
