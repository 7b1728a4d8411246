"""What lies on an object store, as files on this disk for as long as they are needed.

    <cache>/.tubelet-tmp-<process>-<random>-read/s3/bucket/features/...

Verbs that read an OUT read such a copy, so that they work on a store as on a disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tubelet.errors import StoreError, UsageError
from tubelet.machine.atomic import TEMPORARY, maker_lives, temporary_name
from tubelet.machine.cache import cache_folder
from tubelet.store.failures import NAME
from tubelet.store.folder import CODECS, RECIPE, json_bytes
from tubelet.store.named_files import is_inside
from tubelet.store.remote.objects import ObjectFolder, StoredObject
from tubelet.store.remote.spool import StoreFailures

HIDDEN = ".tubelet"
KEEP_FREE = 64 << 20
"""Bytes of the disk that a copy leaves alone."""


@contextmanager
def local_copy(url: str, *, arrays: bool = True) -> Iterator[Path]:
    """A folder of a store, or one feature file with what belongs to it, as a path on this disk.

    arrays: False brings the JSON alone, for who needs no rows. UsageError where nothing is, where
    it cannot be read, and where this disk has no room for it.
    """
    folder = cache_folder() / temporary_name("read")
    scheme, _, rest = url.rstrip("/").partition("://")
    target = folder / scheme / rest
    try:
        _tidy(folder.parent)
        target.parent.mkdir(parents=True)
        if PurePosixPath(rest).suffix[1:] in {"json", *CODECS, "pt"}:
            target = _file(url.rstrip("/"), folder / scheme, target)
        else:
            _folder(ObjectFolder.of(url), target, arrays=arrays)
        yield target
    except StoreError as error:
        if target.exists():
            raise
        raise UsageError(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tidy(cache: Path) -> None:
    """Copies that killed processes left."""
    for path in cache.glob(f"{TEMPORARY}*-read"):
        if maker_lives(path) is False:
            shutil.rmtree(path, ignore_errors=True)


def _folder(store: ObjectFolder, target: Path, *, arrays: bool) -> None:
    there = store.entries()
    if not there:
        raise UsageError(f"{store.url}: nothing there (or no such bucket)")
    wanted = {n: e for n, e in there.items() if not {HIDDEN, "debug"} & set(n.split("/")[:2])}
    if not arrays:
        wanted = {n: e for n, e in wanted.items() if n.endswith((".json", ".jsonl"))}
    _copy(store, wanted, target)
    for name in _folders_with_recipe(there):
        _failures(store.below(name) if name else store, target / name)
    for kind in ("claims", "runs"):
        _signs(store, there, kind, target)


def _folders_with_recipe(there: Mapping[str, StoredObject]) -> list[str]:
    """OUT itself, "", and the folders of its models."""
    paths = map(PurePosixPath, there)
    above = [str(path.parent) for path in paths if path.name == RECIPE and len(path.parts) < 3]
    return ["" if name == "." else name for name in above]


def _copy(store: ObjectFolder, wanted: Mapping[str, StoredObject], target: Path) -> None:
    """Files with the times that the store has for them."""
    size = sum(entry.size for entry in wanted.values())
    target.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target).free
    if size + KEEP_FREE > free:
        raise UsageError(
            f"{store.url}: {size} bytes are to be copied to {cache_folder()}, where {free} are "
            "free; name a larger disk with TUBELET_CACHE"
        )
    store.get_many(wanted, target)
    for name, entry in wanted.items():
        os.utime(target / name, (entry.modified, entry.modified))


def _failures(store: ObjectFolder, target: Path) -> None:
    """failures.jsonl as it is now, also while a run is on or after one was killed."""
    text = StoreFailures(store).text()
    if text:
        (target / NAME).write_bytes(text)
    else:
        (target / NAME).unlink(missing_ok=True)


def _signs(store: ObjectFolder, there: Mapping[str, StoredObject], kind: str, target: Path) -> None:
    """Claims or runs, as the files that a disk would have."""
    place = f"{HIDDEN}/{kind}/"
    names = sorted((n for n in there if n.startswith(place)), key=lambda n: (len(n), n))
    for name, record in store.records(names).items():
        stem = name.removeprefix(place).partition("/")[0].removesuffix(".json")
        path = target / HIDDEN / kind / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json_bytes(record))
        os.utime(path, (there[name].modified, there[name].modified))


def _file(url: str, root: Path, target: Path) -> Path:
    """A feature file: its JSON and every array that this lists; or a file of another tool."""
    above, _, name = url.rpartition("/")
    store = ObjectFolder.of(above)
    sidecar = f"{PurePosixPath(name).stem}.json"
    record = store.record(sidecar) or {}
    identity, files = record.get("id"), record.get("files")
    parts = identity.split("/") if isinstance(identity, str) else []
    if not isinstance(files, dict) or not parts:
        if not store.has(name):
            raise UsageError(f"{url}: no such object")
        target.parent.mkdir(parents=True, exist_ok=True)
        store.get(name, target)
        return target
    for _ in parts[1:]:
        above = above.rpartition("/")[0]
    out = ObjectFolder.of(above)
    names = [f"{identity}.json", *files]
    if not all(map(is_inside, names)):
        raise StoreError(f"{url}: its JSON names a file outside of its folder")
    folder = root / above.partition("://")[2]
    _copy(out, {name: out.entry(name) for name in names}, folder)
    return target
