"""One array per `.npy` file; the times are in the JSON beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tubelet.store.formats.rows import Rows

SUFFIX = ".npy"
TOGETHER = False
"""Whether one file holds all arrays of a video, with their times."""


def write(
    file: IO[bytes], arrays: Mapping[str, Rows], times: Mapping[str, NDArray[np.float64]]
) -> None:
    """Write the one array of `arrays` in C order, byte for byte as numpy.save does."""
    (rows,) = arrays.values()
    write_member(file, rows)


def write_member(file: IO[bytes], rows: Rows) -> None:
    """A header and the rows, piece by piece."""
    header = {
        "descr": np.lib.format.dtype_to_descr(rows.dtype),
        "fortran_order": False,
        "shape": rows.shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
    for start, stop in rows.spans():
        file.write(rows.read(start, stop).tobytes())


def read(path: Path) -> dict[str, NDArray[Any]]:
    """{"": array}. ValueError for anything that is not a plain array."""
    return {"": np.load(path, allow_pickle=False)}
