"""Nearest rows: cosine over all rows of an output folder, one hit per moment.

    vector ─▶ cosine with every row ─▶ best first ─▶ drop what overlaps a better one ─▶ hits

Exact: one product of the whole matrix with the vector, so it costs one reading of the matrix.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import UsageError
from tubelet.rows.collection import Collection
from tubelet.rows.similarity import moments, normalise

Nearest = tuple[NDArray[np.int64], NDArray[np.float32]]
"""(rows, cosines), in any order."""

Among = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


class Index(Protocol):
    """What finds nearest rows faster than the product with all of them, and may miss some."""

    @property
    def name(self) -> str: ...
    def nearest(self, unit: NDArray[np.float32], k: int) -> Nearest: ...


@dataclass(frozen=True)
class Hit:
    """One row that is alike, and when it is: seconds of video `id`."""

    id: str
    row: int
    start_s: float
    end_s: float
    center_s: float
    cosine: float


@dataclass(frozen=True)
class Found:
    """hits: best first. engine: exact, or the name of an index. rows: how many were looked at.
    took_s: without loading."""

    hits: list[Hit]
    engine: str
    rows: int
    took_s: float

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "engine": self.engine,
            "rows": self.rows,
            "took_ms": round(self.took_s * 1000, 3),
            "hits": [asdict(hit) for hit in self.hits],
        }


class Searcher:
    """Search in one collection. Thread-safe: nothing changes after it is made.

    index: an approximate one instead of the exact product.
    """

    def __init__(self, collection: Collection, *, index: Index | None = None) -> None:
        self.collection = collection
        self.engine = "exact" if index is None else index.name
        self._nearest = self._exact if index is None else index.nearest
        c = collection
        self._low, self._high = moments(c.first, c.start_s, c.end_s)

    def moment(self, identity: str, t: float) -> tuple[NDArray[np.float32], range]:
        """(vector, rows) of what is at t seconds of a video; rows: all that overlap it.

        UnknownName, UsageError for what is not there.
        """
        row = self.collection.at(identity, t)
        start, end = self._edges(identity)
        if not start <= t <= end:
            raise UsageError(f"{identity} has rows from {start:g} to {end:g} s; {t:g} is outside")
        return np.array(self.collection.vectors[row]), self._around(row, 0.0)

    def span(self, identity: str, t0: float, t1: float) -> tuple[NDArray[np.float32], range]:
        """(mean of the rows, rows) of [t0, t1) seconds of a video; within one row, that row.

        The mean is of the features as stored, not of their directions.
        """
        if not t0 < t1:
            raise UsageError(f"a span of {t0:g} to {t1:g} s; it must end after it starts")
        rows = self.collection.rows_between(identity, t0, t1)
        if not len(rows):
            return self.moment(identity, (t0 + t1) / 2)
        own = range(int(self._low[rows[0]]), int(self._high[rows[-1]]))
        return self.mean(rows), own

    def mean(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The mean of some rows as they are stored, at length one."""
        c = self.collection
        return normalise((c.vectors[rows] * c.norms[rows, None]).mean(axis=0)[None])[0][0]

    def nearest(
        self,
        vector: NDArray[np.floating[Any]],
        *,
        top: int = 10,
        apart_s: float = 0.0,
        exclude: Iterable[int] = (),
        among: Among | None = None,
    ) -> Found:
        """The `top` most alike moments.

        A row that overlaps a better hit of its video in time, or whose centre is at most apart_s
        seconds from that hit's, is the same moment and is left out. exclude: rows that are no
        finds either, such as the query's own. among: of some rows, which may be found.
        """
        c = self.collection
        if vector.shape != (c.width,):
            raise UsageError(f"a vector of shape {list(vector.shape)}; rows have {c.width} numbers")
        if top < 1:
            raise UsageError(f"top is {top}; it must be at least 1")
        began = time.perf_counter()
        unit = normalise(vector[None])[0][0]
        banned = set(exclude)
        hits: list[Hit] = []
        # Overlapping rows crowd the top: ask for more than `top`, and again if that was too few.
        k = min(len(c), 8 * top + len(banned))
        while len(c):
            rows, cosines = self._nearest(unit, k)
            hits = self._moments(rows, cosines, top, apart_s, banned, among)
            if len(hits) >= top or k >= len(c):
                break
            k = min(len(c), k * 8)
        return Found(hits, self.engine, len(c), time.perf_counter() - began)

    def _exact(self, unit: NDArray[np.float32], k: int) -> Nearest:
        cosines = np.asarray(self.collection.vectors @ unit)
        if k >= len(cosines):
            return np.arange(len(cosines)), cosines
        rows = np.argpartition(cosines, len(cosines) - k)[len(cosines) - k :]
        return rows, cosines[rows]

    def _moments(
        self,
        rows: NDArray[np.int64],
        cosines: NDArray[np.float32],
        top: int,
        apart_s: float,
        banned: set[int],
        among: Among | None,
    ) -> list[Hit]:
        """Non-maximum suppression in time: best first, and what belongs to a hit is no other."""
        if among is not None:
            keep = among(rows)
            rows, cosines = rows[keep], cosines[keep]
        order = np.lexsort((rows, -cosines))  # ties: the earlier row
        gone = set(banned)
        hits: list[Hit] = []
        for place in order:
            row = int(rows[place])
            if row in gone:
                continue
            hits.append(self._hit(row, float(cosines[place])))
            if len(hits) == top:
                break
            gone.update(self._around(row, apart_s))
        return hits

    def _around(self, row: int, apart_s: float) -> range:
        """Rows of the same video that overlap a row, or are that near."""
        low, high = int(self._low[row]), int(self._high[row])
        if apart_s > 0:
            c = self.collection
            video = c.span(c.video_of(row))
            centre = c.center_s[video]
            near = np.searchsorted(centre, c.center_s[row] + np.array([-apart_s, apart_s]))
            near[1] = np.searchsorted(centre, c.center_s[row] + apart_s, side="right")
            low = min(low, video.start + int(near[0]))
            high = max(high, video.start + int(near[1]))
        return range(low, high)

    def _hit(self, row: int, cosine: float) -> Hit:
        c = self.collection
        identity = c.video_of(row)
        times = (float(c.start_s[row]), float(c.end_s[row]), float(c.center_s[row]))
        return Hit(identity, row - c.span(identity).start, *times, cosine=round(cosine, 6))

    def _edges(self, identity: str) -> tuple[float, float]:
        rows = self.collection.span(identity)
        c = self.collection
        return float(c.start_s[rows].min()), float(c.end_s[rows].max())
