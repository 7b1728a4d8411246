"""Pickles read without running anything that they name.

A pickle is a program: GLOBAL names any callable, REDUCE calls it. Here

1. `scan` walks the opcodes first, without running them, and refuses what would allocate more than
   the file holds: a string longer than the rest of the file, a memo index that no writer reaches;
2. every global is looked up in a fixed table of stand-ins, so no name reaches an import; what is
   not in the table is refused by its name;
3. the stand-ins check types, shapes and lengths before they build an array, and have a budget, so
   that copying one string a million times is refused as well.

The table holds what real checkpoints need: NumPy arrays, scalars and dtypes (under the old and the
new module names) and ordered dicts. `torch_file` adds torch's storages and tensors.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tubelet.errors import UnsafeFile, WeightsError

Table = Mapping[tuple[str, str], Any]

SPARE_MEMO = 1024  # writers number the memo from 0 or 1, at most one slot an instruction
MAX_OPCODES = 50_000_000
REFUSED = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "INST", "OBJ"}
ARRAY_KINDS = "fiub"  # float, int, unsigned, bool: no objects, no records
BY_CODE = {ord(op.code): op for op in pickletools.opcodes}
LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


class _Cursor:
    """A place in the bytes; moving past their end is the error of a truncated file."""

    def __init__(self, data: bytes | mmap.mmap, at: int) -> None:
        self.data, self.at = data, at

    def skip(self, length: int) -> int:
        """The place before the skipped bytes."""
        if length < 0 or self.at + length > len(self.data):
            raise WeightsError(
                f"a pickle instruction at byte {self.at} needs {length} bytes, "
                f"but only {len(self.data) - self.at} are left: truncated or damaged"
            )
        self.at += length
        return self.at - length

    def number(self, length: int) -> int:
        start = self.skip(length)
        return int.from_bytes(self.data[start : self.at], "little")

    def line(self) -> bytes:
        start, end = self.at, self.data.find(b"\n", self.at)
        self.skip((end if end >= 0 else len(self.data)) + 1 - start)
        return self.data[start : min(end, start + 200)]


def _memo_index(cursor: _Cursor, name: str) -> int | None:
    """The slot that a memo instruction writes; None for other instructions."""
    if name == "PUT":
        try:
            return int(cursor.line())
        except ValueError:
            raise WeightsError("damaged memo index") from None
    size = {"BINPUT": 1, "LONG_BINPUT": 4}.get(name)
    return None if size is None else cursor.number(size)


def scan(data: bytes | mmap.mmap, *, start: int = 0, persistent: bool = False) -> int:
    """Walk one pickle's instructions without running them; the position after it.

    Raises UnsafeFile for what no checkpoint needs, WeightsError where the pickle ends too early.
    """
    cursor = _Cursor(data, start)
    for count in range(MAX_OPCODES):
        opcode = BY_CODE.get(data[cursor.skip(1)])
        if opcode is None:
            raise WeightsError(f"byte {cursor.at - 1} is not a pickle instruction: damaged")
        name = opcode.name
        if name == "STOP":
            return cursor.at
        if name in REFUSED or (name in ("PERSID", "BINPERSID") and not persistent):
            what = b" ".join((cursor.line(), cursor.line())) if name == "INST" else name.encode()
            raise UnsafeFile(f"the pickle uses {what.decode('latin1')}, which no checkpoint needs")
        slot = _memo_index(cursor, name)
        if slot is not None:
            if slot > count + SPARE_MEMO:
                raise UnsafeFile(
                    f"memo bomb: the pickle asks for {slot} memo slots at its instruction {count}"
                )
        elif opcode.arg is None:
            pass
        elif opcode.arg.n == pickletools.UP_TO_NEWLINE:
            for _ in range(2 if name == "GLOBAL" else 1):
                cursor.line()
        elif opcode.arg.n in LENGTH_BYTES:
            cursor.skip(cursor.number(LENGTH_BYTES[opcode.arg.n]))
        elif name == "FRAME":
            length = cursor.number(8)
            inside = cursor.at
            cursor.skip(length)
            cursor.at = inside
        else:
            cursor.skip(opcode.arg.n)
    raise UnsafeFile(f"a pickle of more than {MAX_OPCODES} instructions")


class Budget:
    """Bytes that the stand-ins may still create."""

    def __init__(self, size: int) -> None:
        self.left = 4 * size + (1 << 20)

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise UnsafeFile("memo bomb: the pickle copies the same data again and again")


class Call:
    """A callable that a pickle may REDUCE, and can do nothing else with."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise UnsafeFile("the pickle sets the state of a function")


class Tree(dict[Any, Any]):
    """Stand-in for OrderedDict; the attributes that torch hangs on it are ignored."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def as_bytes(data: Any) -> bytes:
    """Array data: bytes, or the text that Python 2's byte strings become under latin1."""
    if isinstance(data, str):
        return data.encode("latin1")
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise UnsafeFile(f"array data of type {type(data).__name__}")


class DType:
    """Stand-in for numpy.dtype: a kind with a size, and a byte order given later by its state."""

    __slots__ = ("value",)

    def __init__(self, spec: Any = None, *_: Any) -> None:
        try:
            self.value = np.dtype(as_bytes(spec).decode("latin1"))
        except (TypeError, ValueError):
            raise UnsafeFile(f"array type {spec!r}"[:200]) from None
        if self.value.kind not in ARRAY_KINDS or self.value.itemsize > 8:
            raise UnsafeFile(f"arrays of type {self.value}; a checkpoint holds numbers only")

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "=", "|"):
            raise UnsafeFile(f"byte order {order!r}"[:200])
        self.value = self.value.newbyteorder(order)


class Array:
    """Stand-in for numpy.ndarray: `value` is None until its state has been checked."""

    __slots__ = ("_budget", "value")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.value: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        """(version, shape, dtype, whether in Fortran order, bytes)"""
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnsafeFile("an array with an unknown kind of state")
        self.fill(state[4], state[2], state[1], fortran=bool(state[3]))

    def fill(self, data: Any, dtype: Any, shape: Any, *, fortran: bool = False) -> Array:
        """Build the array, in native byte order, once its length agrees with its data."""
        if not isinstance(dtype, DType) or not isinstance(shape, tuple | list):
            raise UnsafeFile("an array without a number type or a shape")
        sizes = [n for n in shape if type(n) is int and n >= 0]
        if len(sizes) != len(shape) or len(shape) > 32:
            raise UnsafeFile(f"an array of shape {shape!r}"[:200])
        raw = as_bytes(data)
        if math.prod(sizes) * dtype.value.itemsize != len(raw):
            raise UnsafeFile(f"an array of shape {tuple(sizes)} with {len(raw)} bytes of data")
        self._budget.spend(len(raw))
        order = "F" if fortran else "C"
        array = np.frombuffer(raw, dtype.value).reshape(sizes, order=order)
        self.value = array.astype(dtype.value.newbyteorder("="), order="C")
        return self


def plain_table(budget: Budget) -> dict[tuple[str, str], Any]:
    """What a pickle of NumPy arrays may name."""

    def encode(text: Any, encoding: Any = "latin1") -> bytes:
        """protocol 2 writes bytes as _codecs.encode(text, "latin1")"""
        if not isinstance(text, str) or encoding != "latin1":
            raise UnsafeFile(f"_codecs.encode with {encoding!r}"[:200])
        budget.spend(len(text))
        return text.encode("latin1")

    def tree(items: Any = ()) -> Tree:
        budget.spend(64 * len(items))
        return Tree(items)

    def no_bytes(*parts: Any) -> bytes:
        """protocol 2 writes b"" as bytes()"""
        if parts:
            raise UnsafeFile("bytes() with an argument")
        return b""

    def reconstruct(*_: Any) -> Array:
        return Array(budget)

    def scalar(dtype: Any, data: Any = b"") -> Array:
        return Array(budget).fill(data, dtype, ())

    def frombuffer(data: Any, dtype: Any, shape: Any, order: Any = "C") -> Array:
        return Array(budget).fill(data, dtype, shape, fortran=order == "F")

    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): Call(reconstruct),
        ("numpy", "dtype"): Call(DType),
        ("collections", "OrderedDict"): Call(tree),
        ("_codecs", "encode"): Call(encode),
        ("__builtin__", "bytes"): Call(no_bytes),
        ("builtins", "bytes"): Call(no_bytes),
    }
    for package in ("numpy.core", "numpy._core"):
        table[package + ".multiarray", "_reconstruct"] = Call(reconstruct)
        table[package + ".multiarray", "scalar"] = Call(scalar)
        table[package + ".numeric", "_frombuffer"] = Call(frombuffer)
    return table


class _Unpickler(pickle.Unpickler):
    """Looks every global up in a table; imports nothing."""

    def __init__(
        self, source: Any, *, table: Table, persistent: Callable[[Any], Any] | None
    ) -> None:
        super().__init__(source, encoding="latin1")
        self._table, self._persistent = table, persistent

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return self._table[module, name]
        except KeyError:
            raise UnsafeFile(
                f"the pickle asks for {module}.{name}, which no checkpoint of these networks "
                "needs; it was not run, and the file is refused"
            ) from None

    def persistent_load(self, pid: Any, /) -> Any:
        if self._persistent is None:
            raise UnsafeFile("the pickle refers to data outside itself")
        return self._persistent(pid)


def load(
    data: bytes | mmap.mmap,
    *,
    start: int = 0,
    table: Table | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> tuple[Any, int]:
    """The object of one pickle and the position after it.

    Arrays come back as `Array`. `table`: what it may name (`plain_table` by default); `persistent`
    resolves references to data outside the pickle. Raises UnsafeFile (with the offending name) or
    WeightsError (truncated, damaged).
    """
    end = scan(data, start=start, persistent=persistent is not None)
    if table is None:
        table = plain_table(Budget(end - start))
    if isinstance(data, mmap.mmap):
        data.seek(start)
        source: Any = data
    else:
        source = io.BytesIO(memoryview(data)[start:end])
    try:
        return _Unpickler(source, table=table, persistent=persistent).load(), end
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise WeightsError(f"damaged pickle ({type(error).__name__}: {error})") from None
