"""Videos on object stores and HDFS: fsspec finds and fetches them, one at a time.

A decoder seeks, so a video is copied to a temporary file first and removed when it has been read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from tubelet.errors import UsageError, VideoError
from tubelet.inputs.types import VIDEO_SUFFIXES, suffix_of
from tubelet.store.remote.objects import beating, open_url

MARKS = ("size", "ETag", "etag", "crc32c", "md5Hash", "mtime", "LastModified", "updated")
"""Facts that change when an object does, by whatever name a store has for them."""


def videos_below(url: str) -> Iterator[tuple[str, str]]:
    """(id, URL) of a video, or of each video below a folder. UsageError for a folder of none."""
    if suffix_of(url) in VIDEO_SUFFIXES:
        yield os.path.splitext(url.rsplit("/", 1)[-1])[0], url
        return
    system, root = open_url(url)
    try:
        found = sorted(system.find(root))
    except Exception as error:  # every store has its own
        raise UsageError(f"{url}: cannot be listed: {error}") from error
    names = [name for name in found if suffix_of(name) in VIDEO_SUFFIXES]
    if not names:
        raise UsageError(f"{url}: no videos there")
    for name in names:
        below = name.removeprefix(root.rstrip("/")).lstrip("/")
        yield os.path.splitext(below)[0], f"{url.rstrip('/')}/{below}"


def facts(url: str) -> list[Any]:
    """What tells this object from a changed one. VideoError where it cannot be asked."""
    system, path = open_url(url)
    try:
        info = system.info(path)
    except Exception as error:  # every store has its own
        raise VideoError(f"{url}: cannot be found: {error or type(error).__name__}") from error
    return [url, *(str(info[mark]) for mark in MARKS if info.get(mark) is not None)]


@contextmanager
def fetched(url: str, folder: Path) -> Iterator[Path]:
    """The object as a temporary file of `folder`. VideoError when it cannot be had whole."""
    before = facts(url)
    system, path = open_url(url)
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, prefix="object-", suffix=suffix_of(url)) as file:
        try:
            system.get_file(path, file.name, callback=beating())
        except Exception as error:  # every store has its own
            raise VideoError(f"{url}: cannot be fetched: {error}") from error
        if facts(url) != before:
            raise VideoError(f"{url}: it changed while it was fetched; extract it again")
        yield Path(file.name)
