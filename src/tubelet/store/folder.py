"""The output folder: one recipe, one set of files per video, and the answer to `is it done?`.

    OUT/tubelet.json                      the recipe and its hash
    OUT/<id>.npy  OUT/<id>.json           the tap "pool" and everything known about its rows
    OUT/taps/<tap>/<id>.npy               other taps
    OUT/logits/<id>.npy                   class scores before softmax
    OUT/failures.jsonl                    one line per failed input

npz, hdf5 and parquet keep all arrays of a video in one file, OUT/<id>.npz and so on.

Arrays are written first and `<id>.json` last: a video is done when its JSON is there, was made by
this recipe from this source, and every file it lists has the sha256 it lists. So a kill at any
moment leaves either a finished video or one that is done again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tubelet.config import differences, stable_hash
from tubelet.errors import RecipeMismatch, StoreError, UsageError, did_you_mean
from tubelet.machine.atomic import atomic_file
from tubelet.store.formats.rows import Rows
from tubelet.store.ids import RESERVED, check_id, check_ids
from tubelet.store.named_files import is_inside, named_file, named_files
from tubelet.types import Features

__all__ = ["CODECS", "RESERVED", "Folder", "check_id", "check_ids", "load", "open_folder"]

CODECS = {
    "npy": "tubelet.store.formats.npy",
    "npz": "tubelet.store.formats.npz",
    "hdf5": "tubelet.store.formats.hdf5",
    "parquet": "tubelet.store.formats.parquet",
}
"""Format -> module with SUFFIX, TOGETHER, write and read. A suffix is a dot and the format."""

RECIPE = "tubelet.json"
SCHEMA = 1
TIMES = ("start_s", "end_s", "center_s")


def codec_of(fmt: str) -> Any:
    """The module of a format. UsageError for an unknown one and for one that is not installed."""
    if fmt not in CODECS:
        raise UsageError(
            f"format {fmt!r} is unknown; it must be one of {', '.join(CODECS)}"
            + did_you_mean(fmt, CODECS)
        )
    try:
        return importlib.import_module(CODECS[fmt])
    except ImportError as error:
        raise UsageError(
            f"format {fmt!r} needs {error.name}: pip install 'tubelet[{fmt}]'"
        ) from error


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Folder:
    """An output folder opened for one recipe. `fmt` is a key of CODECS."""

    path: Path
    recipe_hash: str
    fmt: str = "npy"

    def sidecar(self, identity: str) -> Path:
        return self.path / f"{identity}.json"

    def is_done(self, identity: str, expected: Mapping[str, Any] | None = None) -> bool:
        """Whether this video is complete and verified.

        expected: what its JSON must say, such as the fingerprint of its source.
        """
        files = self.promised(read_record(self.sidecar(identity)), expected)
        try:
            return bool(files) and all(
                sha256_of(named_file(self.path, name, by=identity)) == digest
                for name, digest in files.items()
            )
        except (OSError, StoreError):
            return False

    def promised(
        self, record: Mapping[str, Any] | None, expected: Mapping[str, Any] | None
    ) -> dict[str, str]:
        """The files that a JSON lists, with their sha256; none where it is of another recipe, or
        does not say what is expected."""
        if record is None or record.get("recipe") != self.recipe_hash:
            return {}
        if any(record.get(key) != value for key, value in (expected or {}).items()):
            return {}
        files = record.get("files")
        return files if isinstance(files, dict) else {}

    def unsent(self) -> Sequence[str]:
        """Videos that are finished here and not yet where they belong: none, this is the place."""
        return ()

    def resume(self, identity: str) -> None:
        """Bring such a video where it belongs."""

    def send_sheets(self, identity: str) -> None:
        """Bring its contact sheets where they belong."""

    def write(self, identity: str, features: Features) -> None:
        """All arrays, then the JSON. StoreError when something cannot be written."""
        arrays = {"pool": Rows.of(features.values)}
        arrays |= {tap: Rows.of(values) for tap, values in features.taps.items()}
        if features.logits is not None:
            arrays["logits"] = Rows.of(features.logits)
        times = {name: getattr(features, name) for name in TIMES}
        self.put(identity, arrays, times, features.provenance)

    def put(
        self,
        identity: str,
        arrays: Mapping[str, Rows],
        times: Mapping[str, NDArray[np.float64]],
        provenance: Mapping[str, Any],
    ) -> None:
        """As `write`, with rows that never are in memory all at once. "pool" comes first."""
        check_id(identity)
        codec = codec_of(self.fmt)
        if codec.TOGETHER:
            pieces = {f"{identity}{codec.SUFFIX}": dict(arrays)}
        else:
            pieces = {
                f"{_subfolder(kind)}{identity}{codec.SUFFIX}": {kind: rows}
                for kind, rows in arrays.items()
            }
        try:
            self._put(identity, pieces, times, provenance, arrays["pool"])
        except BaseException:
            # Whatever was replaced so far is worth nothing without its JSON, and takes up room.
            for name in pieces:
                if not self._belongs(identity, name):
                    with suppress(OSError):
                        (self.path / name).unlink(missing_ok=True)
            raise

    def _belongs(self, identity: str, name: str) -> bool:
        """Whether a file is the one that the JSON of its video lists."""
        record = read_record(self.sidecar(identity)) or {}
        try:
            return sha256_of(self.path / name) == (record.get("files") or {}).get(name)
        except OSError:
            return False

    def _put(
        self,
        identity: str,
        pieces: Mapping[str, Mapping[str, Rows]],
        times: Mapping[str, NDArray[np.float64]],
        provenance: Mapping[str, Any],
        pool: Rows,
    ) -> None:
        """pieces: file name -> what it holds."""
        codec, files = codec_of(self.fmt), dict[str, str]()
        for name, group in pieces.items():
            with atomic_file(self.path / name) as file:
                codec.write(file, group, times)
                files[name] = _digest(file)
        record = {
            "schema": SCHEMA,
            "id": identity,
            **provenance,
            "recipe": self.recipe_hash,
            "format": self.fmt,
            "rows": len(pool),
            "shape": list(pool.shape),
            "dtype": str(pool.dtype),
            **{name: values.tolist() for name, values in times.items()},
            "sha256": files[f"{identity}{codec.SUFFIX}"],
            "files": files,
        }
        write_json(self.sidecar(identity), record)


def _subfolder(kind: str) -> str:
    return {"pool": "", "logits": "logits/"}.get(kind, f"taps/{kind}/")


def _digest(file: IO[bytes]) -> str:
    """sha256 of a file that is being written."""
    file.flush()
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Atomic JSON, a line per key; NaN is refused (ValueError)."""
    with atomic_file(path) as file:
        for k, (key, value) in enumerate(record.items()):
            file.write(b",\n " if k else b"{\n ")
            file.write(json_bytes(key) + b": " + json_bytes(value))
        file.write(b"\n}\n")


def json_bytes(value: Any) -> bytes:
    """UTF-8 JSON in one line. Names that are not valid UTF-8 (surrogates) are escaped."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False).encode()


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file, or None where there is none that can be read."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def open_folder(
    path: Path,
    *,
    recipe: Mapping[str, Any],
    run: Mapping[str, Any],
    fmt: str,
    overwrite: bool,
    shown: str | None = None,
) -> Folder:
    """Create or reopen OUT. RecipeMismatch, naming what differs, when another recipe made it.

    `run` (device, workers, versions) is recorded beside the recipe, outside its hash.
    overwrite: take the folder over; videos of the other recipe are then done again.
    shown: what messages call the folder. UsageError when OUT cannot be written.
    """
    codec_of(fmt)
    digest = stable_hash(recipe)
    record = path / RECIPE
    existing = read_record(record)
    if existing is None and record.exists() and not overwrite:
        name = f"{shown}/{RECIPE}" if shown else record
        raise UsageError(f"{name}: not readable as JSON; remove it or pass --overwrite")
    if existing is not None and not overwrite:
        check_same(shown or str(path), existing, recipe, digest, fmt)
    new = {"schema": SCHEMA, "hash": digest, "format": fmt, "recipe": recipe, "run": run}
    check_writable(path)
    try:
        if existing != new:
            write_json(record, new)
    except StoreError as error:
        raise UsageError(str(error)) from error
    return Folder(path, digest, fmt)


def check_writable(path: Path, *, hint: str = "name a folder of yours with -o") -> None:
    """Create a folder and a file in it. UsageError, with the hint, where that cannot be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"?")
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"{path}: cannot write there: {why}; {hint}") from error


def check_same(
    path: str, existing: Mapping[str, Any], recipe: Mapping[str, Any], digest: str, fmt: str
) -> None:
    """RecipeMismatch, naming what differs, for a folder of another recipe or format.

    existing: its tubelet.json. path: what messages call it.
    """
    if existing.get("hash") != digest:
        changed = "; ".join(differences(existing.get("recipe", {}), recipe)[:6])
        raise RecipeMismatch(
            f"{path} was made with another recipe ({changed}); choose another -o, or --overwrite"
        )
    if existing.get("format", "npy") != fmt:
        raise RecipeMismatch(
            f"{path} holds {existing.get('format', 'npy')} files, not {fmt}; choose another -o, "
            "or --overwrite"
        )


def load(path: str | Path, *, verify: bool = True) -> Features:
    """Features of a video from its `<id>.json` or from any of its array files.

    verify: compare the sha256 of every file. StoreError when a file is missing, damaged or not
    one of ours.
    """
    path = Path(path)
    sidecar = _sidecar_of(path)
    record = read_record(sidecar)
    if record is None or not {"files", "id", *TIMES} <= set(record) or not _is_id(record["id"]):
        raise StoreError(f"{path}: no readable {sidecar.name} beside it; is this a feature file?")
    root = sidecar
    for _ in PurePosixPath(record["id"]).parts:
        root = root.parent
    arrays: dict[str, NDArray[Any]] = {}
    for name, digest in named_files(record, record["id"], by=sidecar).items():
        file = named_file(root, name, by=sidecar)
        if not file.is_file() or (verify and sha256_of(file) != digest):
            raise StoreError(f"{file}: missing or damaged (sha256 differs); extract it again")
        arrays |= {kind or _kind(name): a for kind, a in _read(file).items()}
    for name in TIMES:
        arrays.pop(name, None)
    if "pool" not in arrays:
        raise StoreError(f"{sidecar}: lists no file of rows; extract it again")
    times = {name: np.asarray(record.pop(name), np.float64) for name in TIMES}
    logits = arrays.pop("logits", None)
    return Features(arrays.pop("pool"), **times, provenance=record, taps=arrays, logits=logits)


def _is_id(identity: Any) -> bool:
    return isinstance(identity, str) and is_inside(identity)


def _read(file: Path) -> dict[str, NDArray[Any]]:
    try:
        return codec_of(file.suffix[1:]).read(file)
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{file}: not readable: {error}") from error


def _kind(name: str) -> str:
    """What the file of one array holds."""
    first, *rest = name.split("/")
    if first == "taps" and rest:
        return rest[0]
    return "logits" if first == "logits" and rest else "pool"


def _sidecar_of(path: Path) -> Path:
    """The JSON of an array file: beside it, or above the folder of a tap."""
    if path.suffix == ".json":
        return path
    name = path.stem + ".json" if path.suffix[1:] in CODECS else path.name + ".json"
    beside = path.with_name(name)
    for root in path.parents:
        if beside.exists() or not (root / RECIPE).exists():
            continue
        parts = path.relative_to(root).parts
        skip = {"taps": 2, "logits": 1}.get(parts[0], 0)
        return Path(root, *parts[skip:-1], name)
    return beside
