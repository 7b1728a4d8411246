"""Two videos against each other, the map of all rows, and a selection as CSV."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError, UsageError
from tubelet.rows.collection import Collection
from tubelet.rows.similarity import cross_similarity, flat, normalise, pca, shrink, warp_path
from tubelet.serve.library import Library
from tubelet.types import Features

COMPARED = 1200
"""Rows of a video in a comparison; of longer ones neighbours are averaged."""
CELLS = 400
"""Cells of a side of the matrix that the page draws."""
POINTS = 20_000
FITTED = 5_000
"""Rows, evenly spread, that the axes of the map are found from."""
COLUMNS = ("x", "y", "video", "row", "t", "start_s", "end_s", "class")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula."""


def compare(library: Library, a: str, b: str) -> dict[str, Any]:
    """Cosines of every row of a with every row of b, and the path that aligns them."""
    sides: list[dict[str, Any]] = []
    units: list[NDArray[np.float32]] = []
    for key in (a, b):
        folder_index, entry = library.find(key)
        features = library.features(folder_index, entry)
        if not len(features.values):
            raise UsageError(f"{entry.name} has no rows")
        unit, centres, group = _grouped(features)
        units.append(unit)
        sides.append(
            {"key": key, "name": entry.name, "rows": len(features.values), "grouped": group}
            | {"center_s": centres}
        )
    matrix = cross_similarity(*units)
    path = warp_path(matrix)
    along = float(np.mean([matrix[i, j] for i, j in path]))
    small = shrink(matrix, CELLS)
    low, high = float(small.min()), float(small.max())
    levels = np.round((small - low) / ((high - low) or 1) * 255).astype(np.uint8)
    best = np.unravel_index(int(matrix.argmax()), matrix.shape)
    return {
        "a": sides[0],
        "b": sides[1],
        "shape": list(levels.shape),
        "levels": base64.b64encode(levels.tobytes()).decode(),
        "low": round(low, 4),
        "high": round(high, 4),
        "path": [[int(i), int(j)] for i, j in path],
        "along": round(along, 4),
        "best": [int(best[0]), int(best[1]), round(float(matrix[best]), 4)],
    }


def _grouped(features: Features) -> tuple[NDArray[np.float32], list[float], int]:
    """(rows of length one, their centres, how many neighbours each stands for)."""
    unit, _ = normalise(features.values)
    centres = np.asarray(features.center_s)
    group = -(-len(unit) // COMPARED)
    if group > 1:
        starts = np.arange(0, len(unit), group)
        unit, _ = normalise(np.add.reduceat(unit, starts, axis=0))
        counts = np.diff(np.append(starts, len(centres)))
        centres = np.add.reduceat(centres, starts) / counts
    return unit, np.round(centres, 4).tolist(), group


def map_of(library: Library) -> dict[str, Any]:
    """Two principal axes of all rows: x, y per point, whose it is, and its best class."""
    found: list[tuple[int, Collection, NDArray[np.int64]]] = []
    total = 0
    for folder_index, rows in enumerate(library.rows):
        try:
            collection = rows.searcher().collection
        except StoreError:
            continue
        total += len(collection)
        found.append((folder_index, collection, np.arange(len(collection))))
    if not total:
        return {"points": 0, "total": 0}
    names_of_rows = tuple(c.key for _, c, _ in found)
    if library.last_map is not None and library.last_map[0] == names_of_rows:
        return library.last_map[1]
    made = _drawn(library, found, total)
    library.last_map = (names_of_rows, made)
    return made


def _drawn(
    library: Library, found: list[tuple[int, Collection, NDArray[np.int64]]], total: int
) -> dict[str, Any]:
    step = max(1, -(-total // POINTS))
    found = [(s, c, r[:: 1 if s else step]) for s, c, r in found if len(r)]
    first = found[0][1]
    fitted = max(1, -(-len(first) // FITTED))
    sample = np.array(first.vectors[::fitted])
    projection = pca(sample)
    videos: list[dict[str, str]] = []
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for folder_index, collection, rows in found:
        if collection.width == first.width:
            _add_points(library, folder_index, collection, rows, projection, videos, columns)
    names = {int(i): library.class_name(int(i)) for i in set(columns["class"]) if i >= 0}
    return {
        "points": len(columns["x"]),
        "total": total,
        "fitted": len(sample),
        "share": np.round(projection.share, 4).tolist(),
        "videos": videos,
        "names": names,
        **columns,
    }


def _add_points(
    library: Library,
    folder_index: int,
    collection: Collection,
    rows: NDArray[np.int64],
    projection: Any,
    videos: list[dict[str, str]],
    columns: dict[str, list[Any]],
) -> None:
    catalog = library.catalogs[folder_index]
    owner = np.searchsorted(collection.first, rows, side="right") - 1
    for v in np.unique(owner):
        entry = catalog.by_id(collection.ids[v])
        if entry is None:
            continue
        own = rows[owner == v]
        local = own - int(collection.first[v])
        xy = projection(collection.vectors[own])
        columns["x"] += np.round(xy[:, 0], 4).tolist()
        columns["y"] += np.round(xy[:, 1], 4).tolist()
        columns["video"] += [len(videos)] * len(own)
        columns["row"] += local.tolist()
        for name, times in (("t", "center_s"), ("start_s", "start_s"), ("end_s", "end_s")):
            columns[name] += np.round(getattr(collection, times)[own], 3).tolist()
        columns["class"] += _best_classes(library, folder_index, entry, local)
        videos.append({"key": entry.key, "name": entry.name})


def _best_classes(
    library: Library, folder_index: int, entry: Any, rows: NDArray[np.int64]
) -> list[int]:
    if not library.has_stored_scores:
        return [-1] * len(rows)
    try:
        scores, _ = library.classes(library.catalogs[folder_index].read(entry))
    except StoreError:
        scores = None
    return [-1] * len(rows) if scores is None else scores[rows].argmax(axis=1).tolist()


def to_csv(library: Library, chosen: Sequence[tuple[str, int]], *, features: bool) -> Iterator[str]:
    """A header, then a line per (key, row). UsageError for rows that are not there."""
    by_key: dict[str, list[int]] = {}
    for key, row in chosen:
        by_key.setdefault(key, []).append(row)
    header = ["id", "row", "start_s", "end_s", "center_s", "class", "score", "source"]
    written = False
    for key, rows in by_key.items():
        folder_index, entry = library.find(key)
        found = library.features(folder_index, entry)
        bad = [row for row in rows if not 0 <= row < len(found.values)]
        if bad:
            raise UsageError(f"row {bad[0]} of {entry.name}: it has {len(found.values)} rows")
        stored = flat(found.values) if features else np.zeros((len(found.values), 0), np.float32)
        if not written:
            yield _line([*header, *(f"f{i}" for i in range(stored.shape[1]))])
            written = True
        scores, _ = library.classes(found)
        source = str(found.provenance.get("source"))
        for row in sorted(set(rows)):
            times = [
                f"{float(getattr(found, n)[row]):.6f}" for n in ("start_s", "end_s", "center_s")
            ]
            best: list[Any] = ["", ""]
            if scores is not None:
                top = int(scores[row].argmax())
                best = [library.class_name(top), f"{float(scores[row, top]):.6f}"]
            numbers = [f"{value:.9g}" for value in stored[row].tolist()]
            yield _line([entry.name, row, *times, *best, source, *numbers])
    if not written:
        yield _line(header)


def _line(cells: Sequence[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([_harmless(cell) for cell in cells])
    return out.getvalue()


def _harmless(cell: Any) -> Any:
    """A text that no spreadsheet runs: a quote in front of what would be a formula."""
    is_number = not isinstance(cell, str) or _is_number(cell)
    return f"'{cell}" if not is_number and cell.startswith(FORMULA) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
