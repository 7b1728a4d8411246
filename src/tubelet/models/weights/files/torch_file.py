"""torch.save files, zip and legacy, read without torch's unpickler.

    zip       <name>/data.pkl  the object; its tensors refer to storages by key
              <name>/data/<key>  one uncompressed storage each
    legacy    pickle(magic) pickle(1001) pickle(sys_info) pickle(object) pickle([keys])
              then per key: count (8 bytes), raw storage

Tensors come back as `LazyTensor`: a checkpoint's optimizer state is never read. Sizes are checked
against what the file holds before anything is allocated.
"""

from __future__ import annotations

import math
import mmap
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from tubelet.errors import UnsafeFile, WeightsError
from tubelet.models.weights.files.safe_pickle import Budget, Call, Tree, load, plain_table

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Storage:
    """Numbers in the file; `read` gives their bytes, once."""

    __slots__ = ("_read", "_tensor", "count", "dtype")

    def __init__(self, dtype: torch.dtype, count: int, read: Callable[[int], bytes]) -> None:
        self.dtype, self.count, self._read = dtype, count, read
        self._tensor: torch.Tensor | None = None

    def tensor(self) -> torch.Tensor:
        """All numbers as one axis."""
        if self._tensor is None:
            size = self.count * self.dtype.itemsize
            data = bytearray(self._read(size))
            if len(data) != size:
                raise WeightsError(f"a storage has {len(data)} bytes instead of {size}: truncated")
            empty = torch.empty(0, dtype=self.dtype)
            self._tensor = torch.frombuffer(data, dtype=self.dtype) if size else empty
        return self._tensor


class LazyTensor:
    """A view of a storage, not read yet."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        if not isinstance(storage, Storage):
            raise UnsafeFile("a tensor without a storage")
        shape, strides = tuple(shape), tuple(strides)
        if any(type(n) is not int or n < 0 for n in (offset, *shape, *strides)):
            raise UnsafeFile(f"a tensor of shape {shape} and strides {strides}"[:200])
        if len(shape) != len(strides) or len(shape) > 32:
            raise UnsafeFile(f"a tensor of shape {shape} and strides {strides}"[:200])
        count = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if count > storage.count or (count and last >= storage.count):
            raise UnsafeFile(f"a tensor of shape {shape} in a storage of {storage.count} numbers")
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def tensor(self) -> torch.Tensor:
        return self.storage.tensor().as_strided(self.shape, self.strides, self.offset)


def _first(value: Any, *_: Any) -> Any:
    """A parameter is its data."""
    return value


def torch_table(size: int) -> dict[tuple[str, str], Any]:
    """What a torch.save file may name: NumPy's numbers, tensors, and what optimizers store."""
    budget = Budget(size)
    table = plain_table(budget)

    def counts(items: Any = ()) -> Tree:
        budget.spend(64 * len(items))
        return Tree(items)

    def sequence(items: Any = ()) -> tuple[Any, ...]:
        budget.spend(16 * len(items))
        return tuple(items)

    table.update({("torch", name): dtype for name, dtype in STORAGES.items()})
    for dtype in STORAGES.values():
        table["torch", str(dtype).removeprefix("torch.")] = str(dtype)
    table["torch._utils", "_rebuild_tensor"] = Call(LazyTensor)
    table["torch._utils", "_rebuild_tensor_v2"] = Call(LazyTensor)
    table["torch._utils", "_rebuild_parameter"] = Call(_first)
    table["torch._utils", "_rebuild_parameter_with_state"] = Call(_first)
    table["torch", "Size"] = Call(sequence)
    table["torch", "device"] = Call(lambda *parts: str(parts)[:200])
    table["collections", "Counter"] = Call(counts)
    table["builtins", "set"] = table["__builtin__", "set"] = Call(sequence)
    return table


def _storage_reference(pid: Any) -> tuple[torch.dtype, str, int, Any]:
    """(dtype, key, count, view) of a persistent id; refuses other kinds, such as whole modules."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        raise UnsafeFile(f"a reference to {str(pid)[:80]!r}, where a storage was expected")
    _, dtype, key, _, count = pid[:5]
    if not isinstance(dtype, torch.dtype) or type(count) is not int or count < 0:
        raise UnsafeFile(f"a storage of {str(count)[:80]} numbers of type {str(dtype)[:80]}")
    return dtype, str(key), count, pid[5] if len(pid) == 6 else None


def read_zip(file: Any, *, size: int) -> Any:
    """The object of a zip torch.save file. `file`: opened binary; `size`: its length in bytes."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        # What `zipfile` raises for a hostile or cut directory: a seek before the start is an
        # OSError or ValueError, a zip version it does not know NotImplementedError.
        raise WeightsError(f"truncated or damaged zip file ({error})") from None
    entries = {entry.filename: entry for entry in archive.infolist()}
    _check_entries(entries, size=size)
    pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise WeightsError("a zip archive without data.pkl: not a torch.save file")
    root = pickles[0].removesuffix("data.pkl")

    def read(name: str) -> bytes:
        try:
            return archive.read(entries[name])
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
            # A wrong checksum or header is BadZipFile, cut data EOFError, an encrypted entry
            # RuntimeError, a kind of compression that `zipfile` lacks NotImplementedError.
            raise WeightsError(f"truncated or damaged at {name} ({error})") from None

    if root + "byteorder" in entries and read(root + "byteorder") != b"little":
        raise WeightsError("a torch.save file of a big-endian machine; save it again on another")
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Storage:
        dtype, key, count, _ = _storage_reference(pid)
        name = f"{root}data/{key}"
        if name not in entries or entries[name].file_size != count * dtype.itemsize:
            raise WeightsError(f"storage {key} of {count} numbers is absent or of another size")
        if key not in storages:
            storages[key] = Storage(dtype, count, lambda _: read(name))
        if (storages[key].dtype, storages[key].count) != (dtype, count):
            raise UnsafeFile(f"storage {key} is used with two types")
        return storages[key]

    data = read(pickles[0])
    return load(data, table=torch_table(len(data)), persistent=persistent)[0]


def _check_entries(entries: dict[str, zipfile.ZipInfo], *, size: int) -> None:
    """Refuse TorchScript, NumPy archives and zip bombs."""
    names = [name.partition("/")[2] or name for name in entries]
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise WeightsError(
            "a TorchScript archive: a program, not a state dict; save model.state_dict() instead"
        )
    if names and all(name.endswith(".npy") for name in names):
        raise WeightsError("a NumPy .npz archive, not a checkpoint of a supported layout")
    for entry in entries.values():
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise UnsafeFile(f"zip entry {entry.filename!r} is compressed; torch.save never does")
    if sum(entry.file_size for entry in entries.values()) > size:
        raise UnsafeFile("the zip entries claim more bytes than the file has")


def read_legacy(data: mmap.mmap) -> Any:
    """The object of a legacy torch.save file, mapped into memory."""
    position = 0
    for expected in (LEGACY_MAGIC, LEGACY_PROTOCOL):
        number, position = load(data, start=position)
        if number != expected:
            raise WeightsError(f"a legacy torch.save file with {number!r} for {expected}")
    system, position = load(data, start=position)
    if not isinstance(system, dict) or not system.get("little_endian"):
        raise WeightsError("a torch.save file of a big-endian machine; save it again on another")
    places: dict[str, int] = {}
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Storage:
        dtype, key, count, view = _storage_reference(pid)
        if view is not None:
            raise WeightsError("a storage that is a view of another (torch 0.1): save it again")
        if count * dtype.itemsize > len(data):
            raise UnsafeFile(f"storage {key} claims {count} numbers, more than the file has")
        if key not in storages:

            def read(size: int) -> bytes:
                return data[places[key] : places[key] + size]

            storages[key] = Storage(dtype, count, read)
        return storages[key]

    found, position = load(
        data, start=position, table=torch_table(len(data)), persistent=persistent
    )
    keys, position = load(data, start=position)
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages):
        raise WeightsError("the list of storages does not fit the tensors: damaged")
    for key in map(str, keys):
        storage = storages[key]
        if int.from_bytes(data[position : position + 8], "little") != storage.count:
            raise WeightsError(f"storage {key} has another size than its tensors say: truncated")
        places[key] = position + 8
        position += 8 + storage.count * storage.dtype.itemsize
    if position > len(data):
        raise WeightsError(f"the storages end at byte {position}, the file at {len(data)}")
    return found
