"""One HDF5 file per video: a dataset per tap, `logits`, and the times of the rows.

Per video, because an HDF5 file that many processes share is unreadable after a kill.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tubelet.store.rows import Rows

SUFFIX = ".hdf5"
TOGETHER = True


def write(
    file: IO[bytes], arrays: Mapping[str, Rows], times: Mapping[str, NDArray[np.float64]]
) -> None:
    """Every array as a contiguous dataset, piece by piece. OSError when the disk is full."""
    try:
        # By name: the file is ours alone until it is renamed, and HDF5 then reports its errors.
        with h5py.File(file.name, "w", libver="v110") as target:
            for name, rows in arrays.items():
                dataset = target.create_dataset(name, shape=rows.shape, dtype=rows.dtype)
                for start, stop in rows.spans():
                    dataset[start:stop] = rows.read(start, stop)
            for name, values in times.items():
                target.create_dataset(name, data=values)
    except RuntimeError as error:  # what h5py makes of a failed close
        raise OSError(str(error)) from error


def read(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays by name."""
    with h5py.File(path, "r") as source:
        return {str(name): np.asarray(source[name]) for name in source}
