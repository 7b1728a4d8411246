"""Any input as a path that a decoder can open, and what tells it from a changed one."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

from tubelet.config import stable_hash
from tubelet.decode.base import scan_video
from tubelet.errors import VideoError
from tubelet.inputs.archive import Archive
from tubelet.inputs.object_store import facts as object_facts
from tubelet.inputs.object_store import fetched
from tubelet.inputs.remote import fetch
from tubelet.inputs.types import SYNTHETIC, Input, is_url
from tubelet.machine.cache import cache_folder
from tubelet.store.remote.objects import object_scheme

SAMPLE = 1 << 16


class Openers:
    """Archives stay open between their members. Close it at the end."""

    def __init__(self) -> None:
        self._archives: dict[str, Archive] = {}

    def archive(self, path: str) -> Archive:
        """One open archive at a time: inputs come in the order of the command line."""
        if path not in self._archives:
            self.close()
            self._archives[path] = Archive(path)
        return self._archives[path]

    def close(self) -> None:
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()


def fingerprint(item: Input, openers: Openers) -> str | None:
    """16 hex digits that change with the source; None for a source that is not there.

    Of a file: its size and 64 KiB from its start, middle and end. Of a frame folder: names and
    sizes. Of a member: its entry in the archive. Of a URL: the address; a run never asks the
    server whether a file that it has already used has changed. Of an object: what its store says.
    """
    path = item.path
    if item.member is not None:
        return stable_hash(openers.archive(path).facts(item.member))
    if is_url(path) or path.startswith(SYNTHETIC):
        return stable_hash([path])
    if object_scheme(path):
        try:
            return stable_hash(object_facts(path))
        except VideoError:
            return None
    try:
        if os.path.isdir(path):
            with os.scandir(path) as entries:
                facts = sorted([e.name, e.stat().st_size] for e in entries if e.is_file())
            return hashlib.sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()[:16]
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None  # a pipe or a device could block for ever
        with open(path, "rb") as file:
            return sampled(file)
    except (OSError, ValueError):
        return None


def source_size(path: str) -> int | None:
    """Bytes of a file; of a frame folder the sum over its files; None for what is not on disk."""
    try:
        if os.path.isdir(path):
            return sum(child.stat().st_size for child in _files(path))
        return os.stat(path).st_size
    except (OSError, ValueError):
        return None


def sampled(file: IO[bytes]) -> str:
    """The fingerprint of an open file."""
    size = os.fstat(file.fileno()).st_size
    digest = hashlib.sha256(str(size).encode())
    for start in (0, size // 2, max(0, size - SAMPLE)):
        file.seek(start)
        digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:16]


def part_facts(item: Input) -> dict[str, Any]:
    """What tells rows of one part, rate or choice of frames from those of another; for sidecars."""
    facts: dict[str, Any] = {}
    if item.start_frame is None and item.stop_frame is None:
        facts["range_s"] = [item.start_s, item.end_s]
    else:
        facts["range_frames"] = [item.start_frame, item.stop_frame]
    if item.fps is not None:  # a folder of frames
        facts |= {"fps_exact": str(item.fps), "frames_pattern": item.pattern}
    return facts


def seconds_of_range(item: Input, path: str) -> tuple[float | None, float | None]:
    """[start_s, end_s) of an input's part, on the clock of the video at `path`.

    A range of frames becomes the times at which they appear, read from the packets. VideoError
    where the video has no frame `start_frame`.
    """
    if item.start_frame is None and item.stop_frame is None:
        return item.start_s, item.end_s
    found = scan_video(path, fps=item.fps, pattern=item.pattern)
    first, stop = item.start_frame or 0, item.stop_frame
    if first >= found.frames:
        raise VideoError(
            f"{item.shown}: frame {first} is asked for, and there are {found.frames} frames"
        )
    start_s = None if item.start_frame is None else float(found.times_s[first])
    if stop is None:
        return start_s, None
    if stop < found.frames:
        return start_s, float(found.times_s[stop])
    return start_s, found.end_s + float((stop - found.frames) / found.fps)


@contextmanager
def on_disk(item: Input, openers: Openers | None = None) -> Iterator[str]:
    """A path to open. VideoError when the source changes or vanishes within the block.

    openers: keeps archives open for the next member.
    """
    if item.member is not None and openers is None:
        with closing(Openers()) as own, on_disk(item, own) as path:
            yield path
        return
    if item.path.startswith(SYNTHETIC):
        yield item.path
        return
    if item.member is not None:
        assert openers is not None
        with openers.archive(item.path).copy(item.member, cache_folder() / "members") as copy:
            yield str(copy)
        return
    if object_scheme(item.path):
        with fetched(item.path, cache_folder() / "objects") as copy:
            yield str(copy)
        return
    path = str(fetch(item.path)) if is_url(item.path) else item.path
    before = _state(path)
    yield path
    after = _state(path)
    if before != after:
        what = "vanished" if after is None else "changed"
        raise VideoError(f"{item.shown}: the file {what} while it was read; extract it again")


def _state(path: str) -> object:
    """None where there is nothing."""
    try:
        now = os.stat(path)
        inside = None
        if os.path.isdir(path):
            inside = sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in _files(path))
    except (OSError, ValueError):
        return None
    return now.st_ino, now.st_size, now.st_mtime_ns, inside


def _files(path: str) -> Iterator[Path]:
    return (child for child in Path(path).iterdir() if child.is_file())
