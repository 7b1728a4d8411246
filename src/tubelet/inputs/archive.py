"""Videos in a tar, plain or compressed. Members are copied to files of our own naming.

No path of an archive is ever used on disk; links, devices and folders in it are left alone. Its
headers are read with limits: sizes that lead back, long texts and files of holes are refused.
"""

from __future__ import annotations

import io
import lzma
import math
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from tubelet.errors import UsageError, VideoError
from tubelet.inputs.remote import LIMIT_VARIABLE, limit_bytes
from tubelet.inputs.types import VIDEO_SUFFIXES, Input, suffix_of
from tubelet.machine.heartbeat import HEARTBEAT

PIECE = 1 << 20
MAX_HEADER = 1 << 20
"""Bytes of a pax header or of a long name; names have a few hundred."""
HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
           tarfile.GNUTYPE_LONGLINK)  # fmt: skip
HOLES = 16 << 20
"""Bytes of holes that any sparse member may have; beyond that, at most three times its data."""

BROKEN = (tarfile.TarError, OSError, EOFError, ValueError, ArithmeticError, LookupError, TypeError,
          RecursionError, zlib.error, lzma.LZMAError)  # fmt: skip
"""What `tarfile` raises for headers and streams that are not as they should be."""


class _Header(tarfile.TarInfo):
    """A header that leads forward, with texts of bounded length."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Header:
        before = tarfile.offset
        found = super().fromtarfile(tarfile)
        if found.size < 0 or tarfile.offset <= before:
            # The next header would be one that was read already, for ever.
            raise _refused(f"a header at byte {before} leads back")
        return found

    def _proc_member(self, tarfile: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in HEADERS and self.size > MAX_HEADER:
            raise _refused(f"a header of {self.size} bytes (at most {MAX_HEADER})")
        return super()._proc_member(tarfile)  # pyright: ignore[reportAttributeAccessIssue]


def _refused(why: str) -> tarfile.ReadError:
    return tarfile.ReadError(why)


def members(path: str) -> Iterator[Input]:
    """The videos of an archive; ids are member paths. UsageError when it has none."""
    found = False
    try:
        with tarfile.open(path, tarinfo=_Header) as archive:
            for member in archive:
                base = member.name.rsplit("/", 1)[-1]
                is_video = suffix_of(base) in VIDEO_SUFFIXES and not base.startswith(".")
                if member.isreg() and is_video:
                    found = True
                    identity = os.path.splitext(member.name)[0].removeprefix("./")
                    yield Input(identity, path, member=member.name)
    except BROKEN as error:
        raise UsageError(f"{path}: not a readable tar: {error}") from error
    if not found:
        raise UsageError(f"{path}: no videos in this archive")


class Archive:
    """An open tar. Members asked for in order are read in one pass, also when compressed."""

    def __init__(self, path: str) -> None:
        with ExitStack() as undo:
            try:
                file = undo.enter_context(_Beating(path))
                self._tar = undo.enter_context(tarfile.open(fileobj=file, tarinfo=_Header))
            except BROKEN as error:
                raise VideoError(f"{path}: not a readable tar: {error}") from error
            self._open = undo.pop_all()
        self._path = path

    def facts(self, name: str) -> list[object]:
        """What tells this member from a changed one."""
        info = self._find(name)
        # A pax header may say "nan" or "1e999".
        return [name, info.size, int(info.mtime) if math.isfinite(info.mtime) else 0]

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
            except BROKEN as error:
                raise VideoError(f"{self._path}!{name}: cannot be read: {error}") from error
            if os.path.getsize(file.name) != info.size:
                raise VideoError(f"{self._path}!{name}: the archive ends within this member")
            yield Path(file.name)

    def _find(self, name: str) -> tarfile.TarInfo:
        try:
            info = self._tar.getmember(name)
        except BROKEN as error:
            raise VideoError(f"{self._path}!{name}: no such member ({error})") from error
        where = f"{self._path}!{name}"
        if not info.isreg():
            raise VideoError(f"{where}: not a plain file")
        if info.size > limit_bytes():
            raise VideoError(
                f"{where}: {info.size} bytes, the limit is {limit_bytes()}; raise {LIMIT_VARIABLE}"
            )
        data = _data_bytes(info)
        if info.size - data > max(HOLES, 3 * data):
            raise VideoError(
                f"{where}: {info.size - data} of its {info.size} bytes are holes, which would fill "
                "the disk; unpack the archive"
            )
        return info

    def close(self) -> None:
        self._open.close()


class _Beating(io.FileIO):
    """A file whose every read is a sign of life: finding a member may mean hours of unpacking."""

    def read(self, size: int | None = -1, /) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        HEARTBEAT.beat()
        return super().read(-1 if size is None else size) or b""


def _data_bytes(info: tarfile.TarInfo) -> int:
    """Bytes of a member that are not holes."""
    spans: Any = info.sparse  # pairs (offset, size); None for a plain member
    return sum(size for _, size in spans) if info.issparse() else info.size


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    shutil.copyfileobj(source, target, PIECE)
    target.flush()
