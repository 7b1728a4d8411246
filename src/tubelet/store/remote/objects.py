"""A folder on an object store or HDFS, through fsspec: whole files by name, every call retried.

A PUT of S3 and GCS replaces an object at once: readers see the old bytes or the new ones. HDFS
shows a file while it grows, so there it is written under another name and renamed.
"""

from __future__ import annotations

import errno
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from tubelet.errors import StoreError, UsageError
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.store.named_files import is_inside

EXTRAS = {"s3": "s3", "gs": "gs", "hdfs": "hdfs"}
"""Scheme -> the extra that brings what fsspec needs for it."""

WAITS_S = (2.0, 8.0)
"""A call that fails is made again after each of these, besides what the store's library does."""

MAX_JSON = 256 << 20
"""The largest JSON that is read: a row takes about 100 bytes, so millions of rows."""

PIECES = 2
"""Parts of 50 MB that an upload of S3 holds in memory."""

MODIFIED = ("LastModified", "mtime", "updated", "last_modified")
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, ValueError)
FINAL_NUMBERS = (errno.EINVAL, errno.ENOSYS, errno.ENAMETOOLONG, errno.EPERM)

T = TypeVar("T")


def object_scheme(text: str) -> str:
    """The scheme of a URL of an object store, "" for everything else."""
    scheme, separator, _ = text.partition("://")
    return scheme if separator and scheme in EXTRAS else ""


def open_url(url: str) -> tuple[Any, str]:
    """(file system, path on it). UsageError where its library is missing."""
    import fsspec.core

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = EXTRAS[object_scheme(url)]
        raise UsageError(f"{url}: {error}; pip install 'tubelet[{extra}]'") from error


def beating() -> Any:
    """A callback for which each piece that moves is a sign of life."""
    from fsspec.callbacks import Callback

    return Callback(hooks={"beat": lambda *_args, **_kwargs: HEARTBEAT.beat()})


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing has it. modified: by the clock of the store; 0 where it has none."""

    size: int
    modified: float


@dataclass(frozen=True)
class ObjectFolder:
    """A folder by its URL, without a slash at the end. Every method raises StoreError when the
    store, tried again a few times, does not do it; `name`s are relative, with slashes."""

    url: str

    @classmethod
    def of(cls, text: str) -> ObjectFolder:
        """UsageError for what is no URL of a folder, and where the library is missing."""
        url = text.rstrip("/")
        scheme = object_scheme(text)
        below = url[len(scheme) + 3 :]
        if not scheme or not below or {"", ".", ".."} & set(below.split("/")):
            raise UsageError(f"{text}: not a folder of an object store; need s3://bucket/folder")
        if set("?#*[]") & set(below) or "::" in below:
            raise UsageError(f"{text}: a folder of features cannot have ? # * [ ] :: in its name")
        try:
            open_url(url)
        except (OSError, ValueError) as error:
            raise UsageError(f"{text}: cannot be opened: {error}") from error
        return cls(url)

    def below(self, name: str) -> ObjectFolder:
        return ObjectFolder(f"{self.url}/{name}")

    def put(self, source: Path, name: str) -> None:
        """A file, whole."""

        def send(system: Any, path: str) -> None:
            limits = {"max_concurrency": PIECES} if object_scheme(self.url) == "s3" else {}
            with _in_place(self.url, system, path) as target:
                system.put_file(str(source), target, callback=beating(), **limits)

        self._tried(name, "cannot be written", send)

    def put_bytes(self, data: bytes, name: str) -> None:
        def send(system: Any, path: str) -> None:
            with _in_place(self.url, system, path) as target:
                system.pipe_file(target, data)

        self._tried(name, "cannot be written", send)

    def create(self, data: bytes, name: str) -> bool:
        """As `put_bytes`, unless there is such an object already: then False. Of several callers
        one succeeds, where the store has conditional writes (S3, GCS)."""

        def send(system: Any, path: str) -> bool:
            try:
                if object_scheme(self.url) == "hdfs":
                    system.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
                system.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except OSError:
                if system.exists(path):  # 409: at the same moment
                    return False
                raise
            return True

        return self._tried(name, "cannot be written", send)

    def read(self, name: str, *, limit: int = MAX_JSON) -> bytes | None:
        """The bytes of an object of at most `limit`; None where there is none."""

        def receive(system: Any, path: str) -> bytes | None:
            try:
                size = system.info(path)["size"]
                if size > limit:
                    raise ValueError(f"{size} bytes, the limit is {limit}")
                end = None if object_scheme(self.url) == "hdfs" else size  # it cannot seek
                return system.cat_file(path, end=end) if size else b""
            except FileNotFoundError:
                return None

        return self._tried(name, "cannot be read", receive)

    def record(self, name: str) -> dict[str, Any] | None:
        """The JSON object of a file, or None where there is none that can be read."""
        try:
            record = json.loads(self.read(name) or b"")
        except ValueError:
            return None
        return record if isinstance(record, dict) else None

    def get(self, name: str, target: Path) -> None:
        """Copy an object to a file. StoreError also where there is none."""
        self._tried(
            name,
            "cannot be read",
            lambda system, path: system.get_file(path, str(target), callback=beating()),
        )

    def delete(self, name: str) -> None:
        """An object that may be absent."""

        def remove(system: Any, path: str) -> None:
            with suppress(FileNotFoundError):
                system.rm_file(path)

        self._tried(name, "cannot be removed", remove)

    def get_many(self, names: Iterable[str], folder: Path) -> None:
        """Copy objects to files of the same names below `folder`, several at once."""
        wanted = list(names)
        for name in wanted:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)

        def receive(system: Any, path: str) -> None:
            places = [f"{path.rstrip('/')}/{name}" for name in wanted]
            system.get(places, [str(folder / name) for name in wanted], callback=beating())

        if wanted:
            self._tried("", "cannot be read", receive)

    def entry(self, name: str) -> StoredObject:
        """Size and time of an object. StoreError where there is none."""
        found = self._tried(name, "cannot be read", lambda system, path: system.info(path))
        return StoredObject(int(found.get("size") or 0), _modified(found))

    def has(self, name: str) -> bool:
        return self._tried(name, "cannot be looked for", lambda system, path: system.exists(path))

    def entries(self, below: str = "") -> dict[str, StoredObject]:
        """Everything in the folder, or in one below it: name -> entry. Names that lead out of the
        folder, which an object may have, are left out."""

        def find(system: Any, path: str) -> dict[str, StoredObject]:
            try:
                found = system.find(path, detail=True)
            except FileNotFoundError:
                return {}
            above = path.rstrip("/") + "/"
            prefix = f"{below}/" if below else ""
            return {
                prefix + name.removeprefix(above): StoredObject(
                    int(e.get("size") or 0), _modified(e)
                )
                for name, e in found.items()
                if e.get("type") != "directory"
                and name.startswith(above)
                and is_inside(name.removeprefix(above))
            }

        return self._tried(below, "cannot be listed", find)

    def records(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The JSON objects of many files at once; what is none, or is gone, is left out."""
        wanted = list(names)

        def receive(system: Any, path: str) -> dict[str, bytes]:
            places = {f"{path.rstrip('/')}/{name}": name for name in wanted}
            found = system.cat(list(places), on_error="omit") if places else {}
            return {places[place]: data for place, data in found.items() if place in places}

        parsed: dict[str, dict[str, Any]] = {}
        for name, data in self._tried("", "cannot be read", receive).items():
            with suppress(ValueError):
                record = json.loads(data)
                if isinstance(record, dict):
                    parsed[name] = record
        return parsed

    def _tried(self, name: str, what: str, do: Callable[[Any, str], T]) -> T:
        """`do` with the file system and the path on it, again while the store may recover."""
        url = f"{self.url}/{name}" if name else self.url
        for wait in (*WAITS_S, None):
            try:
                system, root = open_url(self.url)  # names are no URLs: they may hold :: or ?
                system.invalidate_cache()
                return do(system, f"{root.rstrip('/')}/{name}" if name else root)
            except UsageError:
                raise
            except Exception as error:  # every store has its own
                if wait is None or _is_final(error):
                    raise StoreError(f"{url}: {what}: {_words(error)}") from error
            time.sleep(wait)
        raise AssertionError


@contextmanager
def _in_place(url: str, system: Any, path: str) -> Iterator[str]:
    """The path to write to; on HDFS another one that is renamed at the end."""
    if object_scheme(url) != "hdfs":
        yield path
        return
    place = PurePosixPath(path)
    target = str(place.with_name(f".{place.name[-100:]}-{secrets.token_hex(4)}"))
    system.makedirs(str(place.parent), exist_ok=True)
    try:
        yield target
        if system.exists(path):
            system.rm_file(path)
        system.mv(target, path)
    except BaseException:
        with suppress(Exception):
            system.rm_file(target)
        raise


def _is_final(error: Exception) -> bool:
    """Whether trying again cannot help: not there, not allowed, no credentials, no such request."""
    if isinstance(error, OSError) and error.errno in FINAL_NUMBERS:
        return True
    name = type(error).__name__
    return isinstance(error, FINAL) or "Credential" in name or name == "ParamValidationError"


def _words(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = " ".join(text.split())
    if isinstance(error, PermissionError):
        return f"{text}: not allowed with these credentials"
    return text


def _modified(entry: dict[str, Any]) -> float:
    """Seconds since 1970."""
    value = next((entry[key] for key in MODIFIED if entry.get(key) is not None), 0.0)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value)
