"""One array per `.npy` file; the times are in the JSON beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

SUFFIX = ".npy"


def write(file: IO[bytes], values: NDArray[Any], times: Mapping[str, NDArray[np.float64]]) -> None:
    """Write `values` in C order. `times` are not stored here."""
    np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)


def read(path: Path) -> NDArray[Any]:
    """The array of a file. ValueError for anything that is not a plain array."""
    return np.load(path, allow_pickle=False)
