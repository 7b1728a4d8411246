"""Rows of a video while it is read, in bounded memory: `python streaming.py VIDEO`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import tubelet


def rows(extractor: tubelet.Extractor, video: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(index of the window, its row [D])"""
    for row, values in extractor.stream(video):
        yield row.window.index, values["pool"]


if __name__ == "__main__":
    for index, row in rows(tubelet.Extractor(), sys.argv[1]):
        print(index, row.shape, f"length {np.linalg.norm(row):.2f}", flush=True)
