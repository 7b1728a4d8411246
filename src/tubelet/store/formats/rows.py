"""Rows of one array on their way to disk: appended one by one, read back in pieces.

They wait in an unnamed temporary file, so memory does not grow with the video and a kill leaves
nothing behind.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError

PIECE_BYTES = 8 << 20
"""What is read back at once, and what may wait in memory before a file is made."""


class Rows:
    """`len` rows of one shape and dtype. folder: where the temporary file lies; None for memory.

    StoreError when the file cannot be written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: IO[bytes] = io.BytesIO()
        self._on_disk = False
        self._count = 0
        self._row_shape: tuple[int, ...] = (0,)
        self._dtype: np.dtype[Any] = np.dtype(np.float32)

    @classmethod
    def of(cls, values: NDArray[Any]) -> Rows:
        """The rows of an array that is in memory anyway."""
        rows = cls()
        rows.declare(values.shape[1:], values.dtype)
        rows._file = io.BytesIO(np.ascontiguousarray(values).tobytes())
        rows._count = len(values)
        return rows

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._count, *self._row_shape)

    @property
    def nbytes(self) -> int:
        return self._count * self._row_bytes()

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    def declare(self, row_shape: tuple[int, ...], dtype: Any) -> None:
        """What a row is, for arrays that may stay empty."""
        self._row_shape, self._dtype = tuple(row_shape), np.dtype(dtype)

    def append(self, row: NDArray[Any]) -> None:
        """One more row. ValueError when its shape or dtype is not that of the first one."""
        if not self._count:
            self.declare(row.shape, row.dtype)
        elif (row.shape, row.dtype) != (self._row_shape, self._dtype):
            raise ValueError(f"row {row.shape} {row.dtype} after {self._row_shape} {self._dtype}")
        try:
            if not self._on_disk and self._folder is not None and self._bytes() > PIECE_BYTES:
                self._move_to_disk(self._folder)
            self._file.seek(0, io.SEEK_END)
            self._file.write(np.ascontiguousarray(row).tobytes())
        except OSError as error:
            raise StoreError(
                f"{self._folder}: cannot keep rows there: {error.strerror or error}"
            ) from error
        self._count += 1

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows [start, stop) as an array."""
        size = self._row_bytes()
        self._file.seek(start * size)
        data = self._file.read((stop - start) * size)
        return np.frombuffer(data, self._dtype).reshape(stop - start, *self._row_shape)

    def spans(self, step: int | None = None) -> Iterator[tuple[int, int]]:
        """(start, stop) of pieces of about PIECE_BYTES."""
        step = step or max(1, PIECE_BYTES // max(1, self._row_bytes()))
        for start in range(0, self._count, step):
            yield start, min(start + step, self._count)

    def array(self) -> NDArray[Any]:
        """All rows in memory, writable."""
        return self.read(0, self._count).copy()

    def close(self) -> None:
        """Let go of the temporary file."""
        self._file.close()

    def _row_bytes(self) -> int:
        return int(np.prod(self._row_shape, dtype=np.int64)) * self._dtype.itemsize

    def _bytes(self) -> int:
        return (self._count + 1) * self._row_bytes()

    def _move_to_disk(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115
        assert isinstance(self._file, io.BytesIO)
        file.write(self._file.getbuffer())
        self._file, self._on_disk = file, True
