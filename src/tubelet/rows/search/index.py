"""An approximate index for sets whose matrix is too large to be read within 100 ms.

    rows ─▶ minus mean, onto their main axes ─▶ 8 bits per number      built once, N x K bytes
    vector ─▶ main axes ─▶ best candidates of all codes ─▶ exact cosines of those ─▶ best rows

The scan of codes is faiss' (extra `search`). What is kept in OUT/.tubelet are plain arrays, and
faiss is handed those: its own file format is not meant for files from strangers. Recall is
measured when the index is built, on rows of the set itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import UsageError
from tubelet.rows.collection import UNREADABLE, Collection
from tubelet.rows.search.engine import Nearest, Searcher
from tubelet.rows.similarity import Projection, pca

EXACT_BYTES = 3 << 29
"""A matrix up to this size is read within 100 ms by two cores (benchmarks/search.md)."""
AXES = 256
CANDIDATES = 200
"""Rows that are compared exactly; each may be a reading from disk."""
SAMPLE = 20_000
QUERIES = 100
GOOD = 0.98
"""Recall@10 below which all axes are kept."""
BLOCK = 16_384

Note = Callable[[str], None]
Mode = Literal["auto", "exact", "index"]


class Codes:
    """The index. recall: of the 10 nearest rows, how many are found, measured when it was built."""

    def __init__(
        self,
        collection: Collection,
        axes: NDArray[np.float32],
        trained: NDArray[np.float32],
        codes: NDArray[np.uint8],
        recall: float,
    ) -> None:
        self._vectors = collection.vectors
        self._axes, self.trained, self.codes = axes, trained, codes
        self.recall = recall
        self._index = _quantiser(axes.shape[0], trained, codes)

    @property
    def name(self) -> str:
        return f"index of {self._axes.shape[0]} axes, recall@10 {self.recall:.3f}"

    @property
    def axes(self) -> NDArray[np.float32]:
        return self._axes

    def nearest(self, unit: NDArray[np.float32], k: int) -> Nearest:
        """About the k most alike rows, with exact cosines."""
        count = min(len(self._vectors), max(CANDIDATES, 2 * k))
        query = np.ascontiguousarray((self._axes @ unit)[None], np.float32)
        _, found = self._index.search(query, count)
        rows = np.sort(found[0])  # in the order of the file
        _ask_for(self._vectors, rows)
        cosines = np.asarray(self._vectors[rows] @ unit)
        best = np.argsort(-cosines, kind="stable")[:k]
        return rows[best], cosines[best]


def _ask_for(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
    """Have rows that are on disk read all at once, not each when it is touched: 15 ms, not 200."""
    pages = vectors.base
    if not isinstance(pages, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return
    size = vectors.strides[0]
    for row in rows.tolist():
        start = row * size // mmap.PAGESIZE * mmap.PAGESIZE
        with suppress(OSError):  # advice only
            pages.madvise(mmap.MADV_WILLNEED, start, (row + 1) * size - start)


def searcher_for(
    collection: Collection, *, mode: Mode = "auto", note: Note = lambda text: None
) -> Searcher:
    """Exact where that takes less than 100 ms, else with the index, built now where it is missing.

    note: told what is done instead, and what it costs. UsageError for mode `index` without faiss.
    """
    size = collection.vectors.nbytes
    if mode == "exact" or (mode == "auto" and size <= EXACT_BYTES) or not size:
        return Searcher(collection)
    if importlib.util.find_spec("faiss") is None:
        if mode == "index":
            raise UsageError("--index needs faiss: pip install 'tubelet[search]'")
        note(
            f"exact search: every query reads {size / 1e9:.1f} GB; "
            "pip install 'tubelet[search]' for an index"
        )
        return Searcher(collection)
    with suppress(*UNREADABLE):
        return Searcher(collection, index=_read(collection))
    note(f"building an index of {len(collection):,} rows, once")
    codes = build(collection)
    if collection.cached:
        with suppress(OSError):
            _write(collection, codes)
    return Searcher(collection, index=codes)


def build(collection: Collection) -> Codes:
    """AXES main axes; all of them where that finds too little."""
    rng = np.random.default_rng(0)
    vectors = collection.vectors
    queries = np.sort(rng.choice(len(vectors), min(QUERIES, len(vectors)), replace=False))
    wanted = _exact_tops(vectors, queries)
    width = vectors.shape[1]
    units = np.asarray(vectors[queries])
    codes = _encode(collection, min(AXES, width), rng)
    codes.recall = _recall(codes, units, wanted)
    if codes.recall < GOOD and width > AXES:
        codes = _encode(collection, width, rng)
        codes.recall = _recall(codes, units, wanted)
    return codes


def _encode(collection: Collection, axes: int, rng: np.random.Generator) -> Codes:
    vectors = collection.vectors
    faiss = importlib.import_module("faiss")
    some = np.sort(rng.choice(len(vectors), min(SAMPLE, len(vectors)), replace=False))
    sample = np.asarray(vectors[some])
    if axes < vectors.shape[1]:
        projection = pca(sample, axes=axes)
    else:  # nothing is dropped: any axes will do
        mean, whole = sample.mean(axis=0, dtype=np.float32), np.eye(axes, dtype=np.float32)
        projection = Projection(mean, whole, np.full(axes, np.float32(1 / axes)))
    quantiser = _empty(axes)
    quantiser.train(projection(sample))
    for start in range(0, len(vectors), BLOCK):
        quantiser.add(np.ascontiguousarray(projection(vectors[start : start + BLOCK])))
    trained = faiss.vector_to_array(quantiser.sq.trained)
    codes = faiss.vector_to_array(quantiser.codes).reshape(len(vectors), axes)
    return Codes(collection, projection.axes, trained, codes, 0.0)


def _empty(axes: int) -> Any:
    faiss = importlib.import_module("faiss")
    kind = faiss.ScalarQuantizer.QT_8bit
    return faiss.IndexScalarQuantizer(axes, kind, faiss.METRIC_INNER_PRODUCT)


def _quantiser(axes: int, trained: NDArray[np.float32], codes: NDArray[np.uint8]) -> Any:
    """A faiss index over codes. ValueError where the arrays do not fit one another."""
    faiss = importlib.import_module("faiss")
    if trained.shape != (2 * axes,) or codes.ndim != 2 or codes.shape[1] != axes:
        raise ValueError(f"codes {codes.shape}, trained {trained.shape} for {axes} axes")
    index = _empty(axes)
    faiss.copy_array_to_vector(np.ascontiguousarray(trained, np.float32), index.sq.trained)
    faiss.copy_array_to_vector(np.ascontiguousarray(codes, np.uint8).reshape(-1), index.codes)
    index.is_trained, index.ntotal = True, len(codes)
    return index


def _exact_tops(vectors: NDArray[np.float32], queries: NDArray[np.int64]) -> list[set[int]]:
    """The 10 nearest rows of each query, itself included."""
    units = np.asarray(vectors[queries])
    best = np.full((len(queries), 10), -np.inf, np.float32)
    rows = np.full((len(queries), 10), -1, np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        cosines = np.hstack([best, units @ block.T])
        names = np.hstack(
            [
                rows,
                np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block))),
            ]
        )
        top = np.argpartition(-cosines, min(9, cosines.shape[1] - 1), axis=1)[:, :10]
        best, rows = np.take_along_axis(cosines, top, 1), np.take_along_axis(names, top, 1)
    return [{int(row) for row in line if row >= 0} for line in rows]


def _recall(codes: Codes, queries: NDArray[np.float32], wanted: list[set[int]]) -> float:
    found = [
        len(want & set(codes.nearest(q, 10)[0].tolist()))
        for q, want in zip(queries, wanted, strict=True)
    ]
    return sum(found) / max(1, sum(map(len, wanted)))


def _files(collection: Collection) -> tuple[Path, Path]:
    place = collection.cache_folder
    return place / f"{collection.key}.codes.npy", place / f"{collection.key}.index.npz"


def _write(collection: Collection, codes: Codes) -> None:
    """Both files, the small one last. OSError where they cannot be written."""
    large, small = _files(collection)
    with tempfile.TemporaryDirectory(dir=large.parent) as name:
        np.save(Path(name) / "codes.npy", codes.codes)
        arrays: dict[str, Any] = {"axes": codes.axes, "trained": codes.trained}
        np.savez(Path(name) / "index.npz", recall=np.float64(codes.recall), **arrays)
        os.replace(Path(name) / "codes.npy", large)
        os.replace(Path(name) / "index.npz", small)


def _read(collection: Collection) -> Codes:
    """One of UNREADABLE where there is none that fits."""
    large, small = _files(collection)
    with open(small, "rb") as file, np.load(file, allow_pickle=False) as data:
        axes, trained, recall = data["axes"], data["trained"], float(data["recall"])
    codes = np.load(large, mmap_mode="r", allow_pickle=False)
    if len(codes) != len(collection) or axes.ndim != 2 or axes.shape[1] != collection.width:
        raise ValueError(f"{large}: not of these rows")
    return Codes(collection, axes, trained, codes, recall)
