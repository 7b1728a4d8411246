"""Where fetched weights lie, and how several processes share them.

    <cache>/weights/<id>.safetensors   converted once, with its source in the header
    <cache>/weights/<id>.json          source, sha256 of the original file and of the converted one
    <cache>/weights/<id>.lock          held while one process fetches; released even by kill -9
    <cache>/pins.json                  sha256 of sources that publish none, as first seen

<cache> is $TUBELET_CACHE, or `tubelet` in the platform's folder for caches. No torch here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tubelet.errors import FetchError, WeightsError
from tubelet.machine.cache import cache_folder
from tubelet.machine.locks import locked

READABLE = 0o644  # a cache may be shared by users


@dataclass(frozen=True)
class Record:
    """What is known of a cached file. `source_sha256` is of the file as it was released."""

    id: str
    layout: str
    source: str
    source_sha256: str
    sha256: str


@dataclass(frozen=True)
class Slot:
    """The place of one id in the cache."""

    id: str
    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / f"{self.id}.safetensors"

    @property
    def sidecar(self) -> Path:
        return self.folder / f"{self.id}.json"

    def record(self) -> Record | None:
        """What is cached; None where nothing is. Raises WeightsError for a damaged sidecar."""
        if not self.weights.is_file() or not self.sidecar.is_file():
            return None
        try:
            return Record(**json.loads(self.sidecar.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise WeightsError(f"{self.sidecar}: damaged ({error}); delete it") from None

    def verify(self, record: Record) -> None:
        """Refuse a cached file whose bytes have changed. Raises WeightsError."""
        found = sha256_of(self.weights)
        if found != record.sha256:
            raise WeightsError(
                f"{self.weights}: damaged, its sha256 is {found[:12]}... instead of "
                f"{record.sha256[:12]}...; delete it and run again to fetch it anew"
            )

    def store(self, record: Record) -> None:
        """Write the sidecar, which makes the weights beside it count as complete."""
        write_atomically(self.sidecar, json.dumps(asdict(record), indent=1).encode())


def slot(model_id: str) -> Slot:
    """The place of an id; nothing is created."""
    return Slot(model_id, cache_folder() / "weights")


def pin(model_id: str, sha256: str, *, origin: str) -> None:
    """Remember a source's sha256 the first time; afterwards it must stay. Raises FetchError."""
    path = cache_folder() / "pins.json"
    with locked(make_folder(path.parent) / "pins.lock"):
        try:
            pins = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError:
            raise WeightsError(f"{path}: damaged; delete it") from None
        known = pins.get(model_id)
        if known is None:
            pins[model_id] = {"sha256": sha256, "source": origin}
            write_atomically(path, json.dumps(pins, indent=1).encode())
        elif known["sha256"] != sha256:
            raise FetchError(
                f"{model_id}: {origin} has changed: its sha256 is {sha256}, and was "
                f"{known['sha256']} when it was first fetched here; if the new file is right, "
                f"delete its entry in {path}"
            )


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(folder: Path) -> Path:
    """Create a folder of the cache. Raises WeightsError with the way out."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{folder}: the cache cannot be written ({error.strerror or error}); "
            "set TUBELET_CACHE to a folder that can"
        ) from None
    return folder


def write_atomically(path: Path, data: bytes) -> None:
    """The whole file or none: temporary file in the same folder, fsync, rename."""
    handle, name = tempfile.mkstemp(dir=make_folder(path.parent), prefix=path.name + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, READABLE)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def replace_with(path: Path, temporary: Path) -> None:
    """Put a finished temporary file of the same folder in place, synced first."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.chmod(temporary, READABLE)
    os.replace(temporary, path)
