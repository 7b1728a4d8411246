"""One HDF5 file per video: a dataset per tap, `logits`, and the times of the rows.

Per video, because an HDF5 file that many processes share is unreadable after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tubelet.store.formats.rows import Rows

SUFFIX = ".hdf5"
TOGETHER = True


class _Forgiving:
    """A file that keeps its first error instead of raising it.

    HDF5 cannot close a file that it could not write, and takes the process down with it when the
    disk is full. So it never hears of that: the error is raised when HDF5 is done.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def _try(self, call: Callable[[], Any], instead: Any) -> Any:
        if self.error is None:
            try:
                return call()
            except OSError as error:
                self.error = error
        return instead

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(lambda: self._file.seek(offset, whence), offset)

    def tell(self) -> int:
        return self._try(self._file.tell, 0)

    def write(self, data: Any) -> int:
        return self._try(lambda: self._file.write(data), len(data))

    def read(self, size: int = -1) -> bytes:
        return self._try(lambda: self._file.read(size), b"")

    def readinto(self, buffer: Any) -> int:
        return self._try(lambda: self._file.readinto(buffer), len(buffer))  # pyright: ignore

    def truncate(self, size: int) -> int:
        return self._try(lambda: self._file.truncate(size), size)

    def flush(self) -> None:
        self._try(self._file.flush, None)


def write(
    file: IO[bytes], arrays: Mapping[str, Rows], times: Mapping[str, NDArray[np.float64]]
) -> None:
    """Every array as a contiguous dataset, piece by piece. OSError when the disk is full."""
    forgiving = _Forgiving(file)
    try:
        with h5py.File(forgiving, "w", libver="v110") as target:
            for name, rows in arrays.items():
                dataset = target.create_dataset(name, shape=rows.shape, dtype=rows.dtype)
                for start, stop in rows.spans():
                    dataset[start:stop] = rows.read(start, stop)
            for name, values in times.items():
                target.create_dataset(name, data=values)
    except (OSError, RuntimeError) as error:
        raise forgiving.error or OSError(str(error)) from error
    if forgiving.error is not None:
        raise forgiving.error


def read(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays by name. ValueError for what no writer of ours makes and a stranger could: links
    and external or virtual storage (they read other files), more numbers than the file has room.
    """
    room = path.stat().st_size
    found: dict[str, NDArray[Any]] = {}
    with h5py.File(path, "r", locking=False) as source:
        for name in source:
            if not isinstance(source.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r} is a link to elsewhere")
            dataset = source[name]
            if not isinstance(dataset, h5py.Dataset):
                raise ValueError(f"{name!r} is no dataset")
            if dataset.external or dataset.is_virtual:
                raise ValueError(f"{name!r} is stored in another file")
            room -= dataset.nbytes
            if dataset.dtype.kind not in "fiu" or room < 0:
                raise ValueError(f"{name!r}: {dataset.shape} {dataset.dtype} is not in the file")
            found[str(name)] = np.asarray(dataset)
    return found
