"""The file that a video was extracted from: opened only if it still is that very file.

What a sidecar says of its source is a claim of whoever wrote the sidecar. It names a file by a
path and by a fingerprint of its contents; without the second, or where the two disagree, nothing
is read. A link counts only within its own folder.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import IO, Any

from tubelet.errors import VideoError
from tubelet.inputs import Input, find_source, sampled
from tubelet.serve.sniff import HEAD, media_type

KNOWN = 4096
"""How many files are remembered as checked."""


class Sources:
    """Opens the sources of sidecars. roots: where to look for those whose path leads nowhere.
    follow_links: a source may be a link to a file of another folder."""

    def __init__(self, roots: Sequence[Path] = (), *, follow_links: bool = False) -> None:
        self._roots, self._follow = roots, follow_links
        self._checked: OrderedDict[tuple[object, ...], str] = OrderedDict()
        self._lock = Lock()

    def find(self, record: Mapping[str, Any]) -> Input:
        """Where a source is. VideoError, saying why, where it may not or cannot be read."""
        if not record.get("fingerprint"):
            raise VideoError(
                "no fingerprint of its source is recorded; extract it again to play it"
            )
        item = find_source(record, self._roots)
        if item.member is not None:
            raise VideoError("its source is a member of an archive, which is not unpacked here")
        if not item.path.startswith("synthetic:"):
            self._real(item.path)
        return item

    def open(self, record: Mapping[str, Any]) -> tuple[IO[bytes], str]:
        """(open file, media type) of a source. VideoError as for `find`, and for folders."""
        item = self.find(record)
        if not os.path.isfile(item.path):
            raise VideoError("its source is no single file; a preview can be made of it")
        # The name may be another file by now: what is checked is what has been opened.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            file = os.fdopen(os.open(self._real(item.path), flags), "rb")
        except OSError as error:
            raise VideoError(f"its source cannot be opened: {error.strerror}") from error
        try:
            return file, self._check(file, str(record["fingerprint"]))
        except BaseException:
            file.close()
            raise

    def _real(self, path: str) -> str:
        """The path without links. VideoError for a link that leads out of its folder."""
        real = os.path.realpath(path)
        home = os.path.realpath(os.path.dirname(path) or ".")
        inside = real.startswith(home.rstrip(os.sep) + os.sep)
        if os.path.islink(path) and not inside and not self._follow:
            raise VideoError(
                "its source is a link that leads to another folder; --follow-links allows that"
            )
        return real

    def _check(self, file: IO[bytes], fingerprint: str) -> str:
        """The media type of a file whose contents are those that were extracted."""
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise VideoError("its source is not a regular file")
        mark = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, fingerprint)
        with self._lock:
            if mark in self._checked:
                self._checked.move_to_end(mark)
                return self._checked[mark]
        if sampled(file) != fingerprint:
            raise VideoError("its source has changed since; extract it again to play it")
        file.seek(0)
        kind = media_type(file.read(HEAD)) or "application/octet-stream"
        with self._lock:
            self._checked[mark] = kind
            if len(self._checked) > KNOWN:
                self._checked.popitem(last=False)
        return kind
