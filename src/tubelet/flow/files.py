"""Flow of one video as a file: compressed npz, memory-mappable safetensors, or a colour video.

    flow     [N - 1, h, w, 2]  float16 pixels or uint8 levels: pixels = flow * scale + offset
    time_s   [N - 1]           when the first frame of each pair appears

Fields are written as they come; memory does not grow with the video. A npz passes through an
uncompressed temporary file beside it, because its header comes first and counts the pairs.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError
from tubelet.flow.base import FlowConfig
from tubelet.flow.types import Field, Packed

HEADER = 1 << 14
"""Bytes kept for the header of a safetensors file; spaces fill what it does not need."""
TYPES = {"float32": "F32", "float16": "F16", "uint8": "U8"}


@dataclass(frozen=True)
class FlowFile:
    """What a file holds. meta: the video, the method, the resolution."""

    flow: NDArray[Any]
    time_s: NDArray[np.float64]
    scale: float
    offset: float
    meta: Mapping[str, Any]

    def pixels(self, rows: slice | int) -> Field:
        """Some of the fields in pixels, truncated as configured."""
        return self.flow[rows].astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)


def levels(config: FlowConfig) -> tuple[float, float]:
    """(scale, offset) that turn stored numbers into pixels."""
    if config.rounding == "uint8":
        return 2 * config.bound / 255, -config.bound
    return 1.0, 0.0


def to_pixels(packed: Packed, config: FlowConfig) -> Field:
    """A packed field in pixels, float32."""
    scale, offset = levels(config)
    return packed.astype(np.float32) * np.float32(scale) + np.float32(offset)


def write(
    path: Path, pairs: Iterable[tuple[float, Packed]], config: FlowConfig, meta: Mapping[str, Any]
) -> int:
    """Write (time_s, field) pairs to a .npz or .safetensors file; how many there were.

    Raises StoreError where the file cannot be written, and what the pairs raise; either way no
    file of that name appears.
    """
    put = {".npz": _put_npz, ".safetensors": _put_safetensors}[path.suffix]
    scale, offset = levels(config)
    return put(path, pairs, {**meta, "scale": scale, "offset": offset})


def _spool(pairs: Iterable[tuple[float, Packed]], raw: IO[bytes]) -> tuple[list[float], Packed]:
    """All fields as bytes; the times, and the last field for its shape and type."""
    times, field = [], np.zeros((0, 0, 2), np.float32)
    for time_s, field in pairs:
        raw.write(np.ascontiguousarray(field).tobytes())
        times.append(time_s)
    return times, field


def _put_npz(path: Path, pairs: Iterable[tuple[float, Packed]], meta: Mapping[str, Any]) -> int:
    with _appearing(path) as file, tempfile.TemporaryFile(dir=path.parent) as raw:
        times, field = _spool(pairs, raw)
        header = {
            "descr": np.lib.format.dtype_to_descr(field.dtype),
            "fortran_order": False,
            "shape": (len(times), *field.shape),
        }
        raw.seek(0)
        small = {
            "time_s": np.array(times, np.float64),
            "scale": np.float64(meta["scale"]),
            "offset": np.float64(meta["offset"]),
            "meta": np.array(json.dumps(meta)),
        }
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("flow.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(raw, member, 1 << 20)
            for name, value in small.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asanyarray(value), allow_pickle=False)
    return len(times)


def _put_safetensors(
    path: Path, pairs: Iterable[tuple[float, Packed]], meta: Mapping[str, Any]
) -> int:
    with _appearing(path) as file:
        file.write(bytes(8 + HEADER))
        times, field = _spool(pairs, file)
        end = file.tell() - 8 - HEADER
        file.write(np.array(times, np.float64).tobytes())
        header = {
            "__metadata__": {"meta": json.dumps(meta)},
            "flow": {
                "dtype": TYPES[str(field.dtype)],
                "shape": [len(times), *field.shape],
                "data_offsets": [0, end],
            },
            "time_s": {
                "dtype": "F64",
                "shape": [len(times)],
                "data_offsets": [end, end + 8 * len(times)],
            },
        }
        text = json.dumps(header).encode()
        if len(text) > HEADER:
            raise StoreError(f"{path}: its header has {len(text)} bytes, more than {HEADER}")
        file.seek(0)
        file.write(HEADER.to_bytes(8, "little") + text.ljust(HEADER))
    return len(times)


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when the block ends, and vanishes when it fails."""
    partial = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> FlowFile:
    """A file of `write`. Raises StoreError where it is not one, or damaged."""
    readers: dict[str, Callable[[Path], FlowFile]] = {
        ".npz": _get_npz,
        ".safetensors": _get_safetensors,
    }
    if path.suffix not in readers:
        raise StoreError(f"{path}: flow is kept in .npz and .safetensors files")
    try:
        return readers[path.suffix](path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: not a readable file of flow: {error}") from error


def _get_npz(path: Path) -> FlowFile:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        meta = json.loads(str(arrays["meta"]))
        return FlowFile(
            arrays["flow"], arrays["time_s"], float(arrays["scale"]), float(arrays["offset"]), meta
        )


def _get_safetensors(path: Path) -> FlowFile:
    """The fields stay on disk (memory-mapped) until they are used."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    kinds = {short: np.dtype(name) for name, short in TYPES.items()} | {"F64": np.dtype("f8")}
    found = {
        name: np.memmap(
            path,
            kinds[header[name]["dtype"]],
            "r",
            offset=8 + length + header[name]["data_offsets"][0],
            shape=tuple(header[name]["shape"]),
        )
        for name in ("flow", "time_s")
    }
    meta = json.loads(header["__metadata__"]["meta"])
    times = np.array(found["time_s"])
    return FlowFile(found["flow"], times, float(meta["scale"]), float(meta["offset"]), meta)
