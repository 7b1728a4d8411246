"""Videos in a tar, plain or compressed. Members are copied to files of our own naming.

No path of an archive is ever used on disk; links, devices and folders in it are left alone.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tubelet.errors import UsageError, VideoError
from tubelet.inputs.types import VIDEO_SUFFIXES, Input, suffix_of
from tubelet.machine.heartbeat import HEARTBEAT

PIECE = 1 << 20


def members(path: str) -> Iterator[Input]:
    """The videos of an archive; ids are member paths. UsageError when it has none."""
    found = False
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                base = member.name.rsplit("/", 1)[-1]
                is_video = suffix_of(base) in VIDEO_SUFFIXES and not base.startswith(".")
                if member.isreg() and is_video:
                    found = True
                    identity = os.path.splitext(member.name)[0].removeprefix("./")
                    yield Input(identity, path, member=member.name)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError(f"{path}: not a readable tar: {error}") from error
    if not found:
        raise UsageError(f"{path}: no videos in this archive")


class Archive:
    """An open tar. Members asked for in order are read in one pass, also when compressed."""

    def __init__(self, path: str) -> None:
        with ExitStack() as undo:
            try:
                file = undo.enter_context(_Beating(path))
                self._tar = undo.enter_context(tarfile.open(fileobj=file))
            except (tarfile.TarError, OSError, EOFError) as error:
                raise VideoError(f"{path}: not a readable tar: {error}") from error
            self._open = undo.pop_all()
        self._path = path

    def facts(self, name: str) -> list[object]:
        """What tells this member from a changed one."""
        info = self._find(name)
        return [name, info.size, int(info.mtime)]

    @contextmanager
    def copy(self, name: str, folder: Path) -> Iterator[Path]:
        """The member as a temporary file of `folder`, removed at the end of the block."""
        from tempfile import NamedTemporaryFile

        folder.mkdir(parents=True, exist_ok=True)
        info = self._find(name)
        with NamedTemporaryFile(dir=folder, prefix="member-", suffix=suffix_of(name)) as file:
            try:
                source = self._tar.extractfile(info)
                assert source is not None
                _copy(source, file)  # pyright: ignore[reportArgumentType]
            except (tarfile.TarError, OSError, EOFError) as error:
                raise VideoError(f"{self._path}!{name}: cannot be read: {error}") from error
            if os.path.getsize(file.name) != info.size:
                raise VideoError(f"{self._path}!{name}: the archive ends within this member")
            yield Path(file.name)

    def _find(self, name: str) -> tarfile.TarInfo:
        try:
            info = self._tar.getmember(name)
        except (KeyError, tarfile.TarError, OSError, EOFError) as error:
            raise VideoError(f"{self._path}!{name}: no such member ({error})") from error
        if not info.isreg():
            raise VideoError(f"{self._path}!{name}: not a plain file")
        return info

    def close(self) -> None:
        self._open.close()


class _Beating(io.FileIO):
    """A file whose every read is a sign of life: finding a member may mean hours of unpacking."""

    def read(self, size: int | None = -1, /) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        HEARTBEAT.beat()
        return super().read(-1 if size is None else size) or b""


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    shutil.copyfileobj(source, target, PIECE)
    target.flush()
