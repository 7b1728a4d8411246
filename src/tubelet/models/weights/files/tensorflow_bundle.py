"""TensorFlow V2 checkpoints, read without TensorFlow.

    <prefix>.index                 a sorted table (LevelDB's format) of variable -> BundleEntryProto
    <prefix>.data-00000-of-00001   the tensors' bytes, little-endian, at the offsets given there

    table:  data blocks, meta block, index block, footer of 48 bytes
            footer: two block handles (offset and size as varints), padding, magic number
    block:  entries (bytes shared with the previous key, bytes not shared, length of the value,
            rest of the key, value), restart positions, their count;  then type and checksum

Every block's and every tensor's CRC32C is checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tubelet.errors import WeightsError
from tubelet.models.weights.files.crc32c import masked_crc32c

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48
TRAILER = 5  # block type, masked CRC32C
MAX_INDEX = 1 << 26
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 9: "<i8", 19: "<f2"}


@dataclass
class BundleVariable:
    """One variable: dtype is TensorFlow's number, crc is masked."""

    dtype: int = 0
    shape: list[int] = field(default_factory=list[int])
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0


def index_file(path: Path) -> Path | None:
    """The index of a checkpoint named by its index, its data, its prefix or its folder."""
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        return found[0] if len(found) == 1 else None
    prefix = re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", path.name)
    index = path.with_name(prefix + ".index")
    return index if index.is_file() and _has_footer(index) else None


def _has_footer(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(MAGIC), 0))
        return file.read() == MAGIC


def read(index: Path) -> dict[str, Tensor]:
    """{variable: tensor}. Raises WeightsError: truncated, damaged, or of an unknown kind."""
    if index.stat().st_size > MAX_INDEX:
        raise WeightsError("an index of more than 64 MiB")
    data = index.read_bytes()
    try:
        entries = dict(_entries(data))
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise WeightsError(f"damaged index ({error})") from None
    header = entries.pop("", None)
    if header is None:
        raise WeightsError("an index without a header")
    shards = _fields(header).get(1, [1])[0]
    prefix = index.name.removesuffix(".index")
    files: dict[int, np.memmap] = {}
    tensors: dict[str, Tensor] = {}
    for name, value in entries.items():
        entry = _entry(value)
        if entry.shard not in files:
            path = index.with_name(f"{prefix}.data-{entry.shard:05d}-of-{shards:05d}")
            if not path.is_file():
                raise WeightsError(f"{path.name} is missing beside the index")
            files[entry.shard] = np.memmap(path, np.uint8, mode="r")
        tensors[name] = _tensor(name, entry, files[entry.shard])
    return tensors


def _tensor(name: str, entry: BundleVariable, data: np.memmap) -> Tensor:
    if entry.dtype not in DTYPES:
        raise WeightsError(f"{name}: TensorFlow type {entry.dtype}, which no weights have")
    dtype = np.dtype(DTYPES[entry.dtype])
    if math.prod(entry.shape) * dtype.itemsize != entry.size or min(entry.shape, default=0) < 0:
        raise WeightsError(f"{name}: shape {entry.shape} with {entry.size} bytes")
    if entry.offset + entry.size > len(data):
        raise WeightsError(
            f"{name} ends at byte {entry.offset + entry.size} of a data file of {len(data)}: "
            "truncated"
        )
    raw = np.array(data[entry.offset : entry.offset + entry.size])
    if masked_crc32c(raw) != entry.crc:
        raise WeightsError(f"{name}: its checksum (CRC32C) is wrong: damaged")
    values = raw.view(dtype).reshape(entry.shape)
    return torch.from_numpy(values.astype(dtype.newbyteorder("="), copy=False))


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(key, value) of the whole table."""
    if data[-len(MAGIC) :] != MAGIC or len(data) < FOOTER:
        raise WeightsError("not a TensorFlow index, or a truncated one")
    footer = data[-FOOTER:]
    _, place = _varint(footer, 0)
    _, place = _varint(footer, place)
    offset, place = _varint(footer, place)
    size, _ = _varint(footer, place)
    for _, handle in _block(data, offset, size):
        at, place = _varint(handle, 0)
        length, _ = _varint(handle, place)
        for key, value in _block(data, at, length):
            yield key.decode(), value


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block, trailer = data[offset : offset + size], data[offset + size : offset + size + TRAILER]
    if len(block) != size or len(trailer) != TRAILER:
        raise WeightsError("a block beyond the end of the index: truncated")
    if trailer[0]:
        raise WeightsError("a compressed index, which TensorFlow does not write")
    if masked_crc32c(np.frombuffer(block + trailer[:1], np.uint8)) != _fixed(trailer[1:]):
        raise WeightsError("a block of the index has a wrong checksum: damaged")
    restarts = _fixed(block[-4:])
    end = size - 4 - 4 * restarts
    place, key = 0, b""
    while place < end:
        shared, place = _varint(block, place)
        rest, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + rest + length > end:
            raise ValueError("an entry beyond its block")
        key = key[:shared] + block[place : place + rest]
        place += rest
        yield key, block[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the low ones first, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than 64 bits")


def _fixed(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _fields(message: bytes) -> dict[int, list]:
    """{field number: values} of a protocol buffer: numbers, or bytes."""
    found: dict[int, list] = {}
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, place = _fixed(message[place : place + length]), place + length
        elif kind == 2:
            length, place = _varint(message, place)
            value, place = message[place : place + length], place + length
        else:
            raise ValueError(f"field of kind {kind}")
        if place > len(message):
            raise ValueError("a field beyond its message")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _entry(message: bytes) -> BundleVariable:
    """BundleEntryProto: dtype 1, shape 2, shard_id 3, offset 4, size 5, crc32c 6, slices 7."""
    try:
        fields = _fields(message)
        if 7 in fields:
            raise WeightsError("a variable saved in slices, which no released file has")
        shape = fields.get(2, [b""])[0]
        sizes = [_fields(dim).get(1, [0])[0] for dim in _fields(shape).get(2, [])]
    except (IndexError, ValueError, TypeError) as error:
        raise WeightsError(f"damaged index entry ({error})") from None
    dtype, shard, offset, size, crc = (fields.get(n, [0])[0] for n in (1, 3, 4, 5, 6))
    return BundleVariable(dtype, sizes, shard, offset, size, crc)
