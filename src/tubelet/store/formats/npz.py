"""One uncompressed `.npz` per video: an array per tap, `logits`, and the times of the rows."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from tubelet.store.formats.npy import write_member
from tubelet.store.formats.rows import Rows

SUFFIX = ".npz"
TOGETHER = True
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every member, so that equal rows give equal bytes."""


def write(
    file: IO[bytes], arrays: Mapping[str, Rows], times: Mapping[str, NDArray[np.float64]]
) -> None:
    """Every array as a member, piece by piece."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, rows in {**arrays, **{k: Rows.of(v) for k, v in times.items()}}.items():
            info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            with archive.open(info, "w", force_zip64=True) as member:
                write_member(cast("IO[bytes]", member), rows)


def read(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays by name."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
