"""What a report shows of one model's folder, as plain data; the pages come later.

Everything that is a sample says so: `Sampled` counts what was looked at and what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError, WeightsError
from tubelet.report.pixels import Sheet
from tubelet.rows.collection import Collection
from tubelet.rows.scores import Scores
from tubelet.rows.similarity import (
    Neighbours,
    boundaries,
    moments,
    neighbours,
    novelty,
    pca,
    self_similarity,
    shrink,
)
from tubelet.store.listing import read_failures

PAIRS = 6000
"""Rows that are compared with one another; the time of that grows with their square."""
POINTS = 2500
"""Points of a map."""
CELLS = 128
"""Side of a similarity matrix; more rows are averaged."""
CLASSES = 6
FAINT = 0.05
"""A class whose score never reaches this is not shown."""
ALIKE = 0.99


@dataclass(frozen=True)
class VideoLine:
    """One video in the list. problem: why it has no rows, or cannot be read."""

    id: str
    duration_s: float | None
    rows: int
    fps: float | None
    size: tuple[int, int] | None
    warnings: tuple[str, ...]
    problem: str | None = None


@dataclass(frozen=True)
class Classes:
    """Class scores of a video's rows. ids, names, scores [K, N]: classes that are best in most
    rows. runs: (first row, last row, class, mean score) while one class stays the best."""

    ids: tuple[int, ...]
    names: tuple[str, ...]
    scores: NDArray[np.float32]
    runs: tuple[tuple[int, int, str, float], ...]


@dataclass
class Detail:
    """One video in full. curve, bounds: novelty and likely boundaries; step: every how manieth row
    the similarity matrix shows before cells are averaged. sheets: row -> what the model saw."""

    id: str
    record: Mapping[str, Any]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    center_s: NDArray[np.float64]
    norms: NDArray[np.float32]
    curve: NDArray[np.float64]
    bounds: list[int]
    similarity: NDArray[np.float32]
    step: int
    classes: Classes | None
    wanted: list[int] = field(default_factory=list[int])
    sheets: list[Sheet] = field(default_factory=list[Sheet])
    unseen: str | None = None


@dataclass
class Whole:
    """The set. rows [n]: of the collection, those that were compared. points [p]: places in `rows`
    that are on the map, coordinates [p, 2]; share: of the variance. best: class of each row."""

    rows: NDArray[np.int64]
    points: NDArray[np.int64]
    coordinates: NDArray[np.float32]
    share: NDArray[np.float32]
    norms: NDArray[np.float32]
    alike: list[tuple[int, int, float]]
    duplicates: int
    lonely: list[tuple[int, float]]
    best: NDArray[np.int64] | None
    umap: NDArray[np.float32] | None = None


def lines_of(collection: Collection) -> tuple[list[VideoLine], list[dict[str, Any]]]:
    """(every video with a sidecar, failures that have none)."""
    folder, lines = collection.folder, list[VideoLine]()
    skipped = dict(collection.skipped)
    for identity in folder.ids:
        try:
            record = folder.video(identity)
        except StoreError as error:
            lines.append(VideoLine(identity, None, 0, None, None, (), str(error)))
            continue
        size = record.get("frame_size")
        lines.append(
            VideoLine(
                identity,
                record.get("duration_s"),
                int(record.get("rows", 0)),
                float(record["fps"]) if record.get("fps") else None,
                (size[0], size[1]) if size else None,
                tuple(record.get("warnings") or ()),
                skipped.get(identity),
            )
        )
    known = set(folder.ids)
    failures = [line for line in read_failures(folder.path) if line["id"] not in known]
    return lines, failures


def choose(collection: Collection, count: int, chosen: Sequence[str]) -> list[str]:
    """Videos shown in full: those named, or evenly over the ids that have rows; sorted by id."""
    if chosen:
        for identity in chosen:
            collection.span(identity)
        return sorted(dict.fromkeys(chosen))
    counts = np.diff(collection.first)
    ids = [i for i, n in zip(collection.ids, counts, strict=True) if n]
    places = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
    return [ids[p] for p in dict.fromkeys(places.tolist())]


def detail_of(collection: Collection, identity: str, scores: Scores | None) -> Detail:
    """Curves, matrix and classes of one video. StoreError where its record cannot be read."""
    record = collection.folder.video(identity)
    rows = collection.span(identity)
    unit = np.asarray(collection.vectors[rows])
    curve = novelty(unit)
    step = max(1, -(-len(unit) // 1024))
    return Detail(
        identity,
        record,
        collection.start_s[rows],
        collection.end_s[rows],
        collection.center_s[rows],
        collection.norms[rows],
        curve,
        boundaries(curve),
        shrink(self_similarity(unit[::step]), CELLS),
        step,
        None if scores is None or not len(unit) else classes_of(collection, identity, scores),
    )


def classes_of(collection: Collection, identity: str, scores: Scores) -> Classes | None:
    """None where this video has no scores."""
    try:
        values = scores(collection.folder.load(identity, verify=False))
    except (StoreError, WeightsError):
        return None
    best = values.argmax(axis=1)
    wins = np.bincount(best, minlength=values.shape[1])
    order = np.lexsort((-values.mean(axis=0), -wins))[:CLASSES]
    order = order[(values[:, order].max(axis=0) >= FAINT) | (order == order[0])]
    runs: list[tuple[int, int, str, float]] = []
    for winner, group in groupby(range(len(best)), key=lambda i: int(best[i])):
        members = list(group)
        mean = float(values[members, winner].mean())
        runs.append((members[0], members[-1], scores.name(winner), mean))
    names = tuple(scores.name(int(i)) for i in order)
    return Classes(tuple(int(i) for i in order), names, values[:, order].T, tuple(runs))


def spread(detail: Detail, *, windows: int, until_s: float) -> list[int]:
    """Rows to look at: the first, the last and those between, within the first until_s seconds."""
    seen = np.flatnonzero(detail.end_s <= detail.start_s[0] + until_s) if len(detail.end_s) else []
    if not len(seen):
        return [0] if len(detail.end_s) else []
    places = np.linspace(0, len(seen) - 1, min(windows, len(seen))).round().astype(int)
    return [int(seen[p]) for p in places]


def whole_of(collection: Collection, scores: Scores | None) -> Whole | None:
    """Map, neighbours and lengths of the set; None where it has no rows."""
    n = len(collection)
    if not n:
        return None
    rows = evenly(n, PAIRS)
    unit = np.ascontiguousarray(collection.vectors[rows])
    first = np.searchsorted(rows, collection.first)
    low, high = moments(first, collection.start_s[rows], collection.end_s[rows])
    near = neighbours(unit, low, high)
    video = np.repeat(np.arange(len(first) - 1), np.diff(first))
    across = neighbours(unit, first[video], first[video + 1], k=1)
    lonely = near.outliers(most=6)
    points = np.union1d(evenly(len(rows), POINTS), [place for place, _ in lonely]).astype(np.int64)
    projection = pca(unit)
    alike = most_alike(across, video)
    return Whole(
        rows,
        points,
        projection(unit[points]),
        projection.share,
        np.asarray(collection.norms),
        alike,
        int((across.cosines[:, 0] >= ALIKE).sum()),
        lonely,
        None if scores is None else best_classes(collection, rows, scores),
    )


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` of n places, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def most_alike(
    across: Neighbours, video: NDArray[np.int64], *, most: int = 6
) -> list[tuple[int, int, float]]:
    """(place, place, cosine): the most alike windows of two videos, one for each pair of videos."""
    found: dict[tuple[int, int], tuple[int, int, float]] = {}
    for a, b, cosine in across.near_duplicates(above=-0.999):
        pair = (int(min(video[a], video[b])), int(max(video[a], video[b])))
        found.setdefault(pair, (a, b, cosine))
        if len(found) >= most:
            break
    return list(found.values())


def best_classes(
    collection: Collection, rows: NDArray[np.int64], scores: Scores
) -> NDArray[np.int64] | None:
    """The best class of some rows; -1 where a video has no scores. None where none has."""
    best = np.full(len(rows), -1, np.int64)
    edges = np.searchsorted(rows, collection.first)
    for v, identity in enumerate(collection.ids):
        mine = rows[edges[v] : edges[v + 1]] - collection.first[v]
        if not len(mine):
            continue
        try:
            values = scores(collection.folder.load(identity, verify=False))
        except (StoreError, WeightsError):
            continue
        best[edges[v] : edges[v + 1]] = values[mine].argmax(axis=1)
    return best if (best >= 0).any() else None
